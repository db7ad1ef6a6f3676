"""The style sheet of the report."""

from __future__ import annotations

STYLE = """
:root { --ground: #fff; --card: #f7f7f8; --ink: #1c1e21; --soft: #666c75; --rule: #e2e4e8; --accent: #2166d1;
  --good: #1a7f4b; --bad: #b3261e; --open: #9a6700; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ground: #14161a; --card: #1c1f25; --ink: #e6e8eb; --soft: #98a0ab; --rule: #30353d; --accent: #6ea8fe;
    --good: #56c48a; --bad: #ff8a80; --open: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0; overflow-wrap: break-word; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
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
td.number small { display: block; }
code, pre { font: .85rem/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; padding: .8rem; }
summary { cursor: pointer; color: var(--soft); padding: .15rem 0; }
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
.count { fill: var(--ink); font: 9.5px system-ui, sans-serif; text-anchor: middle; }
.pairs { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1.5rem; font-size: .92rem; }
.pairs dt { color: var(--soft); }
.pairs dd { overflow-wrap: anywhere; }
.dots { stroke: var(--accent); stroke-width: 5; stroke-linecap: round; stroke-opacity: .45; }
.bar-of { display: block; height: 3px; margin-top: 2px; border-radius: 2px; min-width: 4rem;
  background: linear-gradient(90deg, var(--accent) var(--share), var(--rule) var(--share)); }
.matrix { border-collapse: separate; border-spacing: 2px; font-variant-numeric: tabular-nums; }
.matrix th, .matrix td { border: 0; padding: .3rem .5rem; vertical-align: middle; }
.matrix tbody th { position: sticky; left: 0; background: var(--ground); text-align: right; }
.name { display: block; width: max-content; max-width: 9rem; margin-left: auto; }
td .name { max-width: 14rem; margin: 0; overflow-wrap: anywhere; }
.matrix th { white-space: normal; overflow-wrap: anywhere; line-height: 1.2; }
.matrix thead th { text-align: center; vertical-align: bottom; }
.matrix td { text-align: center; border-radius: .25rem; min-width: 3rem; }
.matrix.upright td { min-width: 2.3rem; padding: .3rem .2rem; }
.matrix td.number, .matrix th.number { color: var(--soft); }
.matrix.upright thead th span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem; }
.right { --hue: var(--accent); }
.wrong { --hue: var(--bad); }
.s0 { color: var(--soft); }
.s1 { background: color-mix(in srgb, var(--hue) 7%, var(--ground)); }
.s2 { background: color-mix(in srgb, var(--hue) 12%, var(--ground)); }
.s3 { background: color-mix(in srgb, var(--hue) 17%, var(--ground)); }
.s4 { background: color-mix(in srgb, var(--hue) 22%, var(--ground)); }
.s5 { background: color-mix(in srgb, var(--hue) 27%, var(--ground)); }
.s6 { background: color-mix(in srgb, var(--hue) 32%, var(--ground)); }
.s7 { background: color-mix(in srgb, var(--hue) 37%, var(--ground)); }
.s8 { background: color-mix(in srgb, var(--hue) 42%, var(--ground)); }
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: .75rem; margin: .75rem 0 0;
  padding: 0; list-style: none; }
.rows li { background: var(--card); border: 1px solid var(--rule); border-radius: .5rem; padding: .6rem .8rem; }
.text { margin: .1rem 0 .5rem; overflow-wrap: anywhere; }
mark { background: color-mix(in srgb, var(--open) 30%, transparent); color: inherit; border-radius: .2rem; padding: 0 .15rem; }
.answers { display: flex; flex-wrap: wrap; gap: .1rem 1.5rem; font-size: .92rem; }
.answers dt { color: var(--soft); font-size: .8rem; }
.answers dd { overflow-wrap: anywhere; }
.answers + b { display: block; margin-top: .4rem; }
.yes { color: var(--good); }
.no { color: var(--bad); }
@media (max-width: 40rem) { th, td { padding-right: .8rem; } table { font-size: .88rem; }
  .name { max-width: 6.5rem; } td .name { max-width: 8rem; } .matrix td { min-width: 2.4rem; padding: .3rem .2rem; } }
@media print {
  @page { margin: 12mm; }
  :root { font-size: 9.5pt; }
  body { font-size: 1rem; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3, figcaption { break-after: avoid; }
  figure, tr, .figures div, .rows li { break-inside: avoid; }
  .charts { grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
  .wide, pre { overflow: visible; }
  pre { white-space: pre-wrap; }
  pre, td { overflow-wrap: anywhere; }
  table { font-size: .8rem; }
  th { white-space: normal; overflow-wrap: anywhere; }
  th, td { padding-right: .5rem; }
  td.number { overflow-wrap: normal; }
  td small { display: block; white-space: normal; max-width: 5rem; margin-left: auto; }
  .figures dd { white-space: normal; }
  .matrix { font-size: 6.5pt; border-spacing: 1px; }
  .matrix th, .matrix td, .matrix.upright td { padding: .15rem .1rem; min-width: 0; overflow-wrap: normal; }
  .matrix tbody th { padding-right: .3rem; }
  .matrix .name { max-width: 5.5rem; overflow-wrap: anywhere; }
  svg, .figures div, figure, .matrix td, .bar-of, mark { print-color-adjust: exact; }
}
"""
