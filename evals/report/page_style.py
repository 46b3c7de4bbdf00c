"""How a page looks: one style sheet, for light and dark, from a phone to a desk."""

from recipes.plots.palette import DARK, LIGHT, css_variables

COLORS = f"""
:root {{ {css_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {css_variables(DARK)} }} }}
"""
RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.55;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
.quiet { color: var(--muted); font-size: .92rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 0 0 1.25rem; font-size: .92rem; }
nav a { color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.9rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .75rem .8rem; }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--muted); font-size: .88rem; }
.wide { overflow-x: auto; margin: 1rem 0; background: var(--card);
        border: 1px solid var(--line); border-radius: 12px; width: fit-content; max-width: 100%;
        min-width: min(100%, 30rem); }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .42rem 1rem; }
th { color: var(--muted); font-weight: 600; border-bottom: 1px solid var(--line); vertical-align: bottom; }
tbody tr + tr td { border-top: 1px solid color-mix(in srgb, var(--line) 55%, transparent); }
/* A word is broken only where it alone is wider than a column may be. */
td { white-space: pre-line; overflow-wrap: break-word; max-width: 34rem; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1rem;
            margin: 1rem 0; align-items: start; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .8rem; }
figure:only-child { max-width: 38rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { color: var(--muted); font-size: .88rem; padding: .5rem .25rem 0; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
      padding: .8rem 1rem; overflow-x: auto; font: .86rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
      white-space: pre-wrap; overflow-wrap: anywhere; }
pre code { font: inherit; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--accent); }
.chat { display: flex; flex-direction: column; gap: .4rem; max-width: 43rem; margin: 1.25rem 0; }
.chat p { margin: 0; padding: .5rem .9rem; border-radius: 16px; max-width: 85%; white-space: pre-wrap; }
.chat .user { align-self: flex-end; background: var(--soft); border-bottom-right-radius: 4px; margin-top: .6rem; }
.chat .model { align-self: flex-start; background: var(--card); border: 1px solid var(--line);
  border-bottom-left-radius: 4px; }
.chat .call, .chat .result { align-self: flex-start; padding: .1rem .9rem; color: var(--muted);
  font: .88rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; border-left: 3px solid var(--line);
  border-radius: 0; margin-left: .9rem; }
.chat span { font: .72rem/1 system-ui, sans-serif; border: 1px solid var(--line); border-radius: 6px;
  padding: .1rem .4rem; }
@media (max-width: 600px) {
  main { padding: 1.25rem .85rem 3rem; }
  h1 { font-size: 1.5rem; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(7.8rem, 1fr)); gap: .5rem; }
  .tiles b { font-size: 1.25rem; }
  th, td { padding: .38rem .6rem; }
  figure { padding: .5rem .4rem; }
}
@media print { body { background: #fff; } h2 { break-after: avoid; } figure, .wide { break-inside: avoid; } }
"""
CSS = COLORS + RULES
