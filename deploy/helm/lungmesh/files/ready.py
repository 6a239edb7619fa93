"""Ask each address whether it is ready, and say which one is not and why."""

import sys
import time
import urllib.error
import urllib.request

PATIENCE_SECONDS = 120.0


def state(url: str) -> str:
    """Return what is in the way, or nothing."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return "" if answer.status == 200 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace").strip() or f"status {error.code}"
    except OSError as error:
        return f"no answer ({error})"


limit = time.monotonic() + PATIENCE_SECONDS
waiting = {url: "not asked" for url in sys.argv[1:]}
while waiting:
    waiting = {url: reason for url in waiting if (reason := state(url))}
    if waiting and time.monotonic() > limit:
        sys.exit("\n".join(f"{url}: {reason}" for url, reason in waiting.items()))
    time.sleep(1 if waiting else 0)
print(f"all {len(sys.argv) - 1} services are ready")
