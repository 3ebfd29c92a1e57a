"""Run folders and their HTML page: `create` writes ``run.json``, `render` makes ``report.html`` of it."""

from tfq_pipeline.report.page import render
from tfq_pipeline.report.run import create

__all__ = ["create", "render"]
