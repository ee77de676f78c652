"""Servers on loopback, in a thread: one that misbehaves as it is told, one with a tiny model."""

import contextlib
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tutelage.generation import AskedModel, Chat, GenerationSettings, make_engine
from tutelage.types import Message


def completion(text, *, finish="stop", tokens=1, **more):
    """What a well-behaved server sends after a prompt."""
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None, **more}
    return {"choices": [choice], "usage": {"completion_tokens": tokens}}


def chat_completion(text, *, finish="stop", tokens=1):
    """What a well-behaved server sends after a conversation."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"choices": [choice], "usage": {"completion_tokens": tokens}}


class OnLoopback:
    """A server in a thread, from entering to leaving.

    Args:
        handler: class of what answers a request.
    """

    def __init__(self, handler):
        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass

        self._server = Quiet(("127.0.0.1", 0), handler)
        self.root = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


class Hostile(OnLoopback):
    """A server that answers with what a function says.

    Args:
        answer: ``(body, number)`` gives what is done with the request of this number, from 0: a
            value (sent as JSON), bytes (sent as they are), ``(status, value, headers)``, or a
            function that gets the handler.
        models: names that it lists.
    """

    def __init__(self, answer, models=("tiny",)):
        self.asked = []
        self.headers = []
        self.paths = Counter()
        self.at_once = self.most_at_once = 0
        hostile, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                hostile.paths[self.path] += 1
                self.send(200, {"data": [{"id": name} for name in models]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path.endswith("/tokenize"):
                    return self.send(404, {})
                with lock:
                    number = len(hostile.asked)
                    hostile.paths[self.path] += 1
                    hostile.asked.append(body)
                    hostile.headers.append(dict(self.headers))
                    hostile.at_once += 1
                    hostile.most_at_once = max(hostile.at_once, hostile.most_at_once)
                try:
                    self.reply(answer(body, number))
                finally:
                    with lock:
                        hostile.at_once -= 1

            def reply(self, found):
                if callable(found):
                    found(self)
                elif isinstance(found, tuple):
                    self.send(*found)
                else:
                    self.send(200, found)

            def send(self, status, value, headers=()):
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in dict(headers).items():
                    self.send_header(name, text)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(content)

        super().__init__(Handler)
        self.url = f"{self.root}/v1"


def hang_up(handler):
    """Close the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def stall(handler):
    """Say nothing for longer than anybody waits here."""
    time.sleep(1)
    handler.close_connection = True


def drip(handler):
    """Send a byte now and then, so that no single read is late."""
    handler.send_response(200)
    handler.send_header("content-length", "100")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(30):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)
    handler.close_connection = True


def asked(url, tokenizer=None, **options):
    """An engine for a server."""
    model = AskedModel("", lambda: None, tokenizer)
    return make_engine("server", {"base_url": url, "timeout": 5.0, **options}, model)


def serving(model, tokenizer):
    """A well-behaved server that runs a model with the local engine."""
    lock = threading.Lock()
    local = make_engine("local", {}, AskedModel("", lambda: model, tokenizer))

    def answer(body, number):
        settings = GenerationSettings(
            max_new_tokens=body["max_tokens"],
            sampling_temperature=body["temperature"],
            top_p=body.get("top_p", 1.0),
            top_k=max(body["top_k"], 0),
            stop_strings=tuple(body.get("stop", ())),
        )
        if "messages" in body:
            prompt = Chat(tuple(Message(**turn) for turn in body["messages"]))
        else:
            prompt = body["prompt"]
        with lock:
            (found,) = local.answer([prompt], settings, seed=body.get("seed", 0))
        send = chat_completion if "messages" in body else completion
        return send(found.text, finish=found.finish, tokens=found.num_tokens)

    return Hostile(answer)
