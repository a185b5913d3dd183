"""chromium: the browser of the tests, driven by Playwright. A program that imports this ends where there is none, with
exit code 77: skipped."""
import shutil
import sys

path = shutil.which("chromium") or shutil.which("google-chrome")
try:
    from playwright.sync_api import expect, sync_playwright  # noqa: F401, for those who import this
except ImportError:
    sync_playwright = None
if not path or not sync_playwright:
    print("skipped:", "no chromium or google-chrome" if sync_playwright else "no Playwright: tools/setup --checks installs it")
    sys.exit(77)
