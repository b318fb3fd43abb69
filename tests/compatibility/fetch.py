# SPDX-License-Identifier: Apache-2.0
"""urllib|requests|urllib3|asyncio URL: the body on standard output."""
import asyncio
import sys
import urllib.parse
import urllib.request


async def by_asyncio(url):
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, 443 if parts.scheme == "https" else 80, ssl=parts.scheme == "https")
    writer.write(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.hostname}\r\n\r\n".encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return body


def main():
    how, url = sys.argv[1:]
    if how == "urllib":
        with urllib.request.urlopen(url) as answer:
            body = answer.read()
    elif how == "requests":
        import requests
        body = requests.get(url, timeout=60).content
    elif how == "urllib3":
        import urllib3
        body = urllib3.PoolManager().request("GET", url).data
    else:
        body = asyncio.run(by_asyncio(url))
    sys.stdout.buffer.write(body)


main()
