"""A hub on loopback that keeps what is pushed: what the client of huggingface_hub asks of one."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from loopback import OnLoopback

TOKEN = "hf_" + "secret" * 5


class FakeHub(OnLoopback):
    """Repositories in memory.

    Args:
        broken: ``{part of a path: status}`` of requests that fail, with the token in what is said.
    """

    def __init__(self, broken=None):
        self.repositories = {}
        self.blobs = {}
        self.asked = []
        self.broken = broken or {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def handle_any(self):
                path = urlsplit(self.path).path
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                hub.asked.append((self.command, path, self.headers.get("authorization"), body))
                for part, status in hub.broken.items():
                    if part in path:
                        return self.send(status, {"error": f"no, {TOKEN}"})
                signed = self.headers.get("authorization") == f"Bearer {TOKEN}"
                if not signed and self.command != "PUT":
                    return self.send(401, {"error": "Invalid credentials"})
                return self.send(*hub.answer(self.command, path, body))

            do_GET = do_POST = do_PUT = do_HEAD = handle_any

            def send(self, status, value):
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                if status >= 400:
                    self.send_header("x-error-message", value.get("error", ""))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        super().__init__(Handler)
        self.url = self.root

    def files(self, name, branch="main"):
        """What a branch holds, by name."""
        return self.repositories[name]["branches"][branch]

    def paths(self, command="POST"):
        """Paths that were asked, in order."""
        return [path for one, path, _, _ in self.asked if one == command]

    def answer(self, command, path, body):
        """Status and value."""
        if path == "/api/whoami-v2":
            return 200, {"name": "me", "type": "user", "orgs": []}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if "/objects/" in path:
            return self._objects(command, path, body)
        parts = path.removeprefix("/api/models/").split("/")
        name, what = "/".join(parts[:2]), parts[2:]
        if name not in self.repositories:
            return 404, {"error": "Repository not found"}
        branches = self.repositories[name]["branches"]
        if not what or what[0] == "revision":
            branch = "/".join(what[1:]) or "main"
            private = self.repositories[name]["private"]
            rows = [{"rfilename": one} for one in branches.get(branch, {})]
            value = {"id": name, "_id": "1", "private": private, "sha": "0" * 40, "siblings": rows}
            return 200, value | {"tags": [], "downloads": 0, "likes": 0}
        if what[0] == "branch":
            branches.setdefault(what[1], dict(branches["main"]))
            return 200, {}
        if what[0] == "preupload":
            return 200, {"files": [self._mode(one) for one in json.loads(body)["files"]]}
        if what[0] == "commit":
            return self._commit(name, branches.setdefault(what[1], {}), body)
        return 404, {"error": f"unknown {path}"}

    def _create(self, asked):
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.repositories:
            return 409, {"error": "You already created this model repo"}
        private = asked.get("private", asked.get("visibility") == "private")
        self.repositories[name] = {"private": bool(private), "branches": {"main": {}}}
        return 200, {"url": f"{self.url}/{name}", "name": name, "id": "1"}

    def _mode(self, file):
        large = file["path"].endswith((".safetensors", ".gguf"))
        mode = "lfs" if large else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _objects(self, command, path, body):
        if path.endswith("/batch"):
            objects = []
            for one in json.loads(body)["objects"]:
                row = {"oid": one["oid"], "size": one["size"]}
                if one["oid"] not in self.blobs:  # what is there is not sent again
                    place = {"href": f"{self.url}/objects/{one['oid']}", "header": {}}
                    row["actions"] = {"upload": place}
                objects.append(row)
            return 200, {"transfer": "basic", "objects": objects}
        name = path.rpartition("/")[2]
        assert command == "PUT" and hashlib.sha256(body).hexdigest() == name
        self.blobs[name] = body
        return 200, {}

    def _commit(self, name, files, body):
        for line in body.decode().splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
        sha = hashlib.sha1(body).hexdigest()
        return 200, {
            "success": True,
            "commitOid": sha,
            "commitUrl": f"{self.url}/{name}/commit/{sha}",
            "hookOutput": "",
        }
