"""The style sheet of the report."""

from __future__ import annotations

STYLE = """
:root { --ground: #fff; --card: #f7f7f8; --ink: #1c1e21; --soft: #666c75; --rule: #e2e4e8; --accent: #2166d1;
  --good: #1a7f4b; --bad: #b3261e; --open: #9a6700; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ground: #14161a; --card: #1c1f25; --ink: #e6e8eb; --soft: #98a0ab; --rule: #30353d; --accent: #6ea8fe;
    --good: #56c48a; --bad: #ff8a80; --open: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1.25rem 0 0; padding: 0; list-style: none; font-size: .88rem; }
nav a { display: block; padding: .15rem .65rem; border: 1px solid var(--rule); border-radius: 1rem; color: inherit;
  text-decoration: none; overflow-wrap: anywhere; }
nav a:hover, nav a:focus-visible { border-color: var(--accent); color: var(--accent); }
section { scroll-margin-top: .5rem; }
small, .note { color: var(--soft); font-size: .85rem; }
.warning { color: var(--open); }
.state { margin: .2rem 0 0; color: var(--open); overflow-wrap: anywhere; }
.state.finished { color: var(--good); }
.state.failed { color: var(--bad); }
dl { margin: 0; }
dd { margin: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin-top: 1.25rem; }
.figures div { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; padding: .6rem .8rem; }
.figures dt { color: var(--soft); font-size: .85rem; }
.figures dd { font-size: 1.45rem; font-weight: 600; line-height: 1.3; white-space: nowrap; }
.figures small { display: block; font-weight: 400; min-height: 1.1rem; }
.wide { overflow-x: auto; margin-bottom: .75rem; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .35rem 1.4rem .35rem 0; text-align: left; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--soft); font-weight: 500; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code, pre { font: .85rem/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; padding: .8rem; }
summary { cursor: pointer; color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; padding: .6rem .7rem; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
figcaption small { display: block; }
figcaption span { float: right; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; margin-top: .3rem; }
.grid { fill: none; stroke: var(--rule); }
.axis { fill: var(--soft); font: 11px system-ui, sans-serif; }
.line { fill: none; stroke: var(--accent); stroke-width: 1.7; stroke-linejoin: round; }
.band { fill: var(--accent); stroke: var(--accent); fill-opacity: .15; stroke-opacity: .15; }
.point { stroke: var(--accent); stroke-width: 4; stroke-linecap: round; }
.odd { stroke: var(--bad); stroke-width: 3; }
.mark { fill: none; stroke: var(--good); stroke-width: 2; }
.touch { fill: transparent; }
.touch circle:hover { fill: var(--accent); fill-opacity: .35; }
.bar { fill: var(--accent); fill-opacity: .3; }
.mean { stroke: var(--accent); stroke-width: 2; }
.ideal { fill: none; stroke: var(--soft); stroke-dasharray: 4 3; }
.count { fill: var(--soft); font: 8px system-ui, sans-serif; text-anchor: middle; }
.pairs { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1.5rem; font-size: .92rem; }
.pairs dt { color: var(--soft); }
.pairs dd { overflow-wrap: anywhere; }
@media print {
  @page { margin: 12mm; }
  body { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3, figcaption { break-after: avoid; }
  figure, tr, .figures div { break-inside: avoid; }
  .charts { grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
  .wide, pre { overflow: visible; }
  pre { white-space: pre-wrap; }
  pre, td, th { overflow-wrap: anywhere; }
  th, .number, .figures dd { white-space: normal; }
  th, td { padding-right: .7rem; }
  svg, .figures div, figure { print-color-adjust: exact; }
}
"""
