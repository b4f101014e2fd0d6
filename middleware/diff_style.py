"""How the HTML diff looks: one page and its sheet, light and dark, from phone to wide screen."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #faf9f6; --card: #ffffff; --line: #e7e4dc; --ink: #23221f; --soft: #6f6b62;
  --track: #ebe8e0; --fill: #3f7d6e; --lost: #a8483b; --lost-wash: #fbeeeb;
  --new: #1f6b43; --new-wash: #e6f4ea; --lock: #8a6d1f; --lock-wash: #fbf6e6;
  --ice: #3b6a94; --ice-wash: #edf4fa; --span: #b9a35a;
  --text: ui-sans-serif, system-ui, "Segoe UI", "Helvetica Neue", "Noto Sans", sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Code", "DejaVu Sans Mono", Menlo, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16171a; --card: #1d1f23; --line: #2e3138; --ink: #e3e1dc; --soft: #989aa2;
    --track: #2b2e35; --fill: #6db7a3; --lost: #e08f83; --lost-wash: #35211f;
    --new: #84cfa0; --new-wash: #1b3024; --lock: #d9bf73; --lock-wash: #29261a;
    --ice: #8fbce3; --ice-wash: #1c2733; --span: #8f7f45;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0 auto; max-width: 52rem; padding: clamp(1.5rem, 6vw, 4.5rem) clamp(1rem, 4vw, 2.5rem);
  background: var(--page); color: var(--ink);
  font: 1rem/1.65 var(--text); font-variant-numeric: tabular-nums;
  -webkit-text-size-adjust: 100%;
}
h1 { margin: 0 0 .5rem; font-size: .95rem; font-weight: 600; color: var(--soft); }
h1 em { font-style: normal; color: var(--lock); }
.sum { margin: 0; font-size: clamp(2rem, 8vw, 3.25rem); line-height: 1.1; letter-spacing: -.03em;
  font-weight: 300; }
.sum i { font-style: normal; color: var(--soft); padding: 0 .15em; }
.sum b { font-weight: 600; }
.sum small { font-size: .4em; letter-spacing: 0; color: var(--soft); white-space: nowrap; }
.facts { display: flex; flex-wrap: wrap; gap: .75rem 2.25rem; margin: 1.75rem 0 0; padding: 0; }
.facts div { min-width: 6rem; max-width: 100%; }
.facts dt { font-size: .75rem; color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.good { color: var(--fill); } .bad { color: var(--lost); font-weight: 600; }
.notes { margin: 1.75rem 0 0; padding: .9rem 1.2rem; list-style: none; border-radius: .6rem;
  background: var(--lock-wash); color: var(--lock); overflow-wrap: anywhere; }
.notes li + li { margin-top: .4rem; }
.bar { height: .4rem; border-radius: 1rem; background: var(--track); overflow: hidden; }
.bar span { display: block; height: 100%; border-radius: 1rem; background: var(--fill); }
.bar.locked span { background: var(--lock); opacity: .55; }
.bar.frozen span { background: var(--ice); opacity: .6; }
header > .bar { margin-top: 1.75rem; height: .6rem; }
nav { margin-top: 2.75rem; }
nav a { display: grid; grid-template-columns: minmax(7rem, 15rem) 1fr 3.2rem; gap: .25rem 1rem;
  align-items: center; padding: .3rem 0; color: inherit; text-decoration: none; }
nav a:hover code { text-decoration: underline; }
nav code { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
nav .num { text-align: right; color: var(--soft); font-size: .85rem; }
nav .bar { min-width: .4rem; }
code { font: .84rem/1.5 var(--mono); }
.views { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .4rem;
  align-items: center; margin: 2.75rem 0 1rem; padding: .7rem 0; border: 0; min-width: 0;
  background: var(--page); }
.views label { padding: .2rem .85rem; border-radius: 2rem; font-size: .875rem; cursor: pointer;
  color: var(--soft); border: 1px solid var(--line); }
.views input { position: absolute; opacity: 0; }
.views label:has(:checked) { color: var(--page); background: var(--ink); border-color: var(--ink); }
.views label:has(:focus-visible) { outline: 2px solid var(--fill); outline-offset: 2px; }
.legend { margin-left: auto; font-size: .8rem; color: var(--soft); }
.legend > * { margin-left: .9rem; }
article { margin: 0 0 1.5rem; padding: clamp(1.1rem, 3.5vw, 1.9rem); border-radius: .9rem;
  background: var(--card); border: 1px solid var(--line); scroll-margin-top: 4rem; }
.head { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline; }
.head code { font-weight: 600; overflow-wrap: anywhere; min-width: 0; }
.head .num { margin-left: auto; white-space: nowrap; }
.head .num small { color: var(--soft); }
.kinds { color: var(--soft); font-size: .85rem; }
article .bar { margin: .8rem 0; }
.why { margin: 0; padding: 0; list-style: none; color: var(--soft); font-size: .85rem;
  overflow-wrap: anywhere; }
.why b { font-weight: 600; color: var(--ink); }
details { margin-top: 1.1rem; }
summary { cursor: pointer; color: var(--soft); font-size: .85rem; }
.text { margin-top: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4;
  unicode-bidi: plaintext; line-height: 1.75; }
.mono { font: .84rem/1.75 var(--mono); }
span.locked, span.frozen { display: block; margin: .5rem 0; padding: .55rem .95rem;
  border-left: 3px solid; border-radius: 0 .5rem .5rem 0; unicode-bidi: plaintext; }
span.locked { border-color: var(--lock); background: var(--lock-wash); }
span.frozen { border-color: var(--ice); background: var(--ice-wash); }
.tag { display: block; font-size: .72rem; user-select: none; }
.locked > .tag, .legend .tag.l { color: var(--lock); }
.frozen > .tag, .legend .tag.f { color: var(--ice); }
.legend .tag { display: inline; font-size: inherit; }
del { color: var(--lost); background: var(--lost-wash); text-decoration-thickness: 1px; }
ins { color: var(--new); background: var(--new-wash); text-decoration: none; }
.held { border-bottom: 2px dotted var(--span); }
body:has(#sent:checked) .text del, body:has(#lost:checked) .text ins { display: none; }
body:has(#lost:checked) .text { color: color-mix(in srgb, var(--ink) 28%, var(--card)); }
footer { margin-top: 3rem; color: var(--soft); font-size: .8rem; }
@media (max-width: 34rem) {
  .legend { margin-left: 0; width: 100%; } .legend > :first-child { margin-left: 0; }
  .head .num { margin-left: 0; width: 100%; }
  nav a { grid-template-columns: 1fr 3.2rem; } nav a > div { grid-row: 2; grid-column: 1 / -1; }
}
@media print { .views, nav { display: none; } article { break-inside: avoid-page; border: 0; } }
"""

VIEWS = """<fieldset class="views">
<label><input type="radio" name="view" id="both" checked>Both</label>
<label><input type="radio" name="view" id="sent">What is sent</label>
<label><input type="radio" name="view" id="lost">What was lost</label>
<span class="legend"><span>kept</span><del>dropped</del><ins>added</ins>
<span class="tag l">locked</span><span class="tag f">frozen</span></span>
</fieldset>"""
"""Which text to show: switched by the sheet alone."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>tersely: what was kept, and what was lost</title>
<style>{style}</style>
</head>
<body>
{body}
<footer>Made by tersely. The page is complete in itself and loads nothing.</footer>
</body>
</html>
"""
