"""Run folders and their HTML page: `publish` writes ``run.json`` and ``report.html``, `render` makes the page anew."""

from tfq_pipeline.report.page import publish, render

__all__ = ["publish", "render"]
