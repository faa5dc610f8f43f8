"""`python -m infra.preview --stack NAME`: preview a stack, print the report, update its comment.

`--comment REPOSITORY#NUMBER` writes the report to the stack's one comment on that pull request, with the
token of GITHUB_TOKEN. The exit code is the preview's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

from infra.paths import REPOSITORY
from infra.preview.report import markdown, marker, parse, redact

API = "https://api.github.com"
_WORKFLOW = "github-actions[bot]"


def preview(stack: str) -> str:
    """JSON that `pulumi preview` prints for a stack.

    Raises:
        RuntimeError: the preview failed; the message is what it said, secrets blotted out.
    """
    command = ["pulumi", "preview", "--json", "--non-interactive", "--stack", stack]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(
            redact(f"pulumi preview of {stack} failed:\n{done.stderr}\n{_messages(done.stdout)}")
        )
    return done.stdout


def _messages(output: str) -> str:
    try:
        diagnostics = json.loads(output).get("diagnostics") or []
    except json.JSONDecodeError:
        return output
    return "\n".join(d.get("message", "") for d in diagnostics)


def comment(where: str, stack: str, body: str, token: str) -> None:
    """Create or replace the stack's comment; `where` is `owner/repository#number`.

    One that somebody else wrote with that first line is left: he could change the report afterwards.
    """
    repository, _, number = where.partition("#")
    headers = {"authorization": f"Bearer {token}", "accept": "application/vnd.github+json"}
    with httpx.Client(base_url=API, headers=headers, timeout=30) as client:
        author = _author(client)
        comments = f"/repos/{repository}/issues/{number}/comments"
        page: str | None = f"{comments}?per_page=100"
        while page:
            answer = client.get(page).raise_for_status()
            for found in answer.json():
                if found["user"]["login"] == author and found["body"].startswith(marker(stack)):
                    address = f"/repos/{repository}/issues/comments/{found['id']}"
                    client.patch(address, json={"body": body}).raise_for_status()
                    return
            page = answer.links.get("next", {}).get("url")
        client.post(comments, json={"body": body}).raise_for_status()


def _author(client: httpx.Client) -> str:
    """Name under which this token writes; a workflow's own token may not ask for it."""
    answer = client.get("/user")
    if answer.status_code == httpx.codes.FORBIDDEN:
        return _WORKFLOW
    return str(answer.raise_for_status().json()["login"])


def main() -> int:
    """Parse, preview, report."""
    parser = argparse.ArgumentParser(prog="python -m infra.preview", description=__doc__)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--comment", metavar="REPOSITORY#NUMBER", help="pull request to write the report to")
    parser.add_argument("--output", type=Path, help="file to write the report to as well")
    options = parser.parse_args()
    git = ["git", "rev-parse", "--short", "HEAD"]
    revision = subprocess.run(git, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    try:
        body = markdown(options.stack, parse(json.loads(preview(options.stack))), revision)
        failed = False
    except RuntimeError as error:
        failed = True
        body = f"{marker(options.stack)}\n### Preview of `{options.stack}` failed\n\n```\n{error}\n```\n"
    sys.stdout.write(body)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(body)
    if options.comment:
        comment(options.comment, options.stack, body, os.environ["GITHUB_TOKEN"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
