"""JSON-RPC with the standard library only, for the scripts beside this one."""

import base64
import http.client
import json
from pathlib import Path


class RpcError(RuntimeError):
    """The error object of a reply."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]


class Rpc:
    """A node's JSON-RPC: its methods are methods of this."""

    def __init__(self, port, cookie_file=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = {"Content-Type": "application/json"}
        if cookie_file:
            token = base64.b64encode(Path(cookie_file).read_bytes()).decode()
            self.headers["Authorization"] = f"Basic {token}"

    def __getattr__(self, method):
        def call(*params):
            body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params})
            try:
                self.connection.request("POST", "/", body, self.headers)
                reply = json.loads(self.connection.getresponse().read())
            except (OSError, http.client.HTTPException) as error:
                # A server may close an idle connection; the next call opens another.
                self.connection.close()
                raise OSError(f"{method}: {error!r}") from error
            if reply.get("error"):
                raise RpcError(reply["error"])
            return reply["result"]

        return call
