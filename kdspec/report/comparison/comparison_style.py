"""The style sheet of the page of several runs, beside that of the report."""

from __future__ import annotations

COMPARISON_STYLE = """
.k0 { --k: #2166d1; } .k1 { --k: #c2410c; } .k2 { --k: #0f7b53; } .k3 { --k: #8b3fb5; }
.k4 { --k: #a16207; } .k5 { --k: #0e7490; } .k6 { --k: #be185d; } .k7 { --k: #57606a; }
@media (prefers-color-scheme: dark) {
  .k0 { --k: #6ea8fe; } .k1 { --k: #fb923c; } .k2 { --k: #4ccf97; } .k3 { --k: #c99af0; }
  .k4 { --k: #e0b84a; } .k5 { --k: #53c7dd; } .k6 { --k: #f58cb8; } .k7 { --k: #a9b1bb; } }
.over .line { stroke: var(--k); stroke-width: 1.5; stroke-opacity: .85; }
.over .point { stroke: var(--k); }
.over .touch circle:hover { fill: var(--k); fill-opacity: .4; }
.dash0 .line, .dash0.swatch { stroke-dasharray: 5 3; }
.dash1 .line, .dash1.swatch { stroke-dasharray: 2 2; }
.dash2 .line, .dash2.swatch { stroke-dasharray: 7 2 2 2; }
.settings .run { stroke: var(--accent); stroke-width: 5.5; stroke-linecap: round; stroke-opacity: .65; }
.settings .deviation { stroke: var(--ink); stroke-width: 1.2; }
.settings .average { stroke: var(--ink); stroke-width: 2.2; }
.settings .value { fill: var(--ink); }
.swatch { display: inline-block; width: 1.6rem; height: .6rem; margin: 0 .35rem 0 0; stroke: var(--k); stroke-width: 3; }
.sides .swatch { width: 1rem; margin-right: .25rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 1rem; padding: 0; font-size: .9rem; }
.legend li { overflow-wrap: anywhere; }
.figures .label { font-size: 1.1rem; white-space: normal; overflow-wrap: anywhere; }
.sides th:first-child, .sides td:first-child { position: sticky; left: 0; background: var(--ground); min-width: 9rem;
  max-width: 18rem; overflow-wrap: break-word; white-space: normal; }
.sides tr.best td { font-weight: 600; }
.badge { color: var(--good); border: 1px solid var(--good); border-radius: .5rem; padding: 0 .4rem; font-size: .8rem;
  font-weight: 400; white-space: nowrap; }
.unfinished { color: var(--open); }
.failed { color: var(--bad); }
@media (max-width: 40rem) { .sides th:first-child, .sides td:first-child { min-width: 7rem; max-width: 9rem; } }
@media print {
  :root { --ground: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #bbb; }
  main { max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; }
  .wide { overflow: visible; }
  table { font-size: .75rem; }
  th, td { padding-right: .6rem; }
}
"""
