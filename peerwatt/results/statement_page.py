"""The page around a statement: plain HTML and a few lines of style, for screen and paper."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 74rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
.short { font-size: 1.1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #c8c8c8; vertical-align: bottom; }
th { font-weight: 600; }
tr > th:first-child { text-align: left; white-space: nowrap; }
tbody th { font-weight: 400; }
tfoot td { font-weight: 600; }
thead th { border-bottom: 2px solid #555; }
tfoot td, tfoot th { border-top: 2px solid #555; border-bottom: 0; }
li { margin: .3rem 0; }
.many { width: 100%; }
.many thead th { overflow-wrap: break-word; hyphens: auto; }
.many td { white-space: nowrap; }
@media screen and (max-width: 1100px) {
  .many { font-size: .82rem; }
  .many th, .many td { padding: .3rem .28rem; }
}
@media screen and (max-width: 760px) {
  .many, .many tbody, .many tfoot, .many tr { display: block; width: 100%; font-size: 1rem; }
  .many thead { display: none; }
  .many tr { padding: .5rem 0; border-bottom: 2px solid #555; }
  .many tr > th { display: block; font-weight: 600; border: 0; }
  .many td { display: flex; justify-content: space-between; gap: 1rem; border: 0; border-bottom: 1px solid #e2e2e2; }
  .many td::before { content: attr(data-head); }
}
@media print {
  body { font-size: 9.5pt; margin: 0; padding: 0; max-width: none; }
  table { font-size: 8pt; }
  .wide { overflow: visible; }
  th, td { padding: .12rem .3rem; }
  table, h2 { break-inside: avoid; }
  h2 { break-after: avoid; }
}
</style>
</head>
<body>
{body}
</body>
</html>
"""
