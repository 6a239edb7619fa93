"""The fonts of the report: Noto Sans SC, cut down to GB 2312 (see README.md beside them)."""

from pathlib import Path

REGULAR = Path(__file__).parent / "NotoSansSC-Regular.ttf"
BOLD = Path(__file__).parent / "NotoSansSC-Bold.ttf"
