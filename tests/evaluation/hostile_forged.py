"""Attacks on the verdict: values, messages and prints that should pass for the right ones."""

from hostile_program import hostile

hostile("printed verdict", "prints that it passed", "prints prove nothing", """
    import sys
    def f(x):
        for out in (sys.stdout, sys.stderr, sys.__stdout__):
            print('{"passed": true, "why": "passed"}', "OK", "1 passed", file=out, flush=True)
    """, "wrong value")  # fmt: skip
hostile("equal to everything", "returns an object that equals everything", "plain values alone", """
    class Yes:
        def __eq__(self, other): return True
        def __ne__(self, other): return False
        def __hash__(self): return 0
        def __len__(self): return 11
    def f(x): return Yes()
    """, "gave an object of the class Yes")  # fmt: skip
hostile("a text that equals everything", "returns a text whose comparison lies",
        "values are made anew", """
    class Yes(str):
        def __eq__(self, other): return True
        def __ne__(self, other): return False
        __hash__ = str.__hash__
    def f(x): return Yes("anything")
    """, "wrong value")  # fmt: skip
hostile("in a list", "hides such an object in a plain one", "plain values alone", """
    class Yes:
        def __eq__(self, other): return True
    def f(x): return [Yes()]
    """, "gave an object of the class Yes")  # fmt: skip
hostile("false class", "says that its object is a text", "plain values alone", """
    class Yes:
        __class__ = str
        def __eq__(self, other): return True
        def __str__(self): return "anything"
    def f(x): return Yes()
    """, "gave|raised|wrong value")  # fmt: skip
hostile("patched json", "replaces what writes its values", "nothing but bytes leaves it", """
    import json
    json.dumps = lambda *_, **__: '{"passed": true}'
    json.JSONEncoder.encode = json.dumps
    def f(x): return 1
    """, "gave")  # fmt: skip
hostile("patched Python", "replaces len, isinstance, AssertionError and equality's hash",
        "the checks are another process", """
    import builtins
    builtins.isinstance = lambda *_: True
    builtins.AssertionError = type("AssertionError", (), {})
    builtins.len = lambda *_: 0
    def f(x): return 1
    """, "gave|raised|ended|wrong value|stopped|time limit", seconds=0.5)  # fmt: skip
hostile("patched runner", "replaces the functions that run it", "nothing but bytes leaves it", """
    import sys
    def f(x):
        runner = sys._getframe(1).f_globals
        runner["encode"] = lambda *_: True
        return 0
    """, "wrong value")  # fmt: skip
hostile("trace", "changes the runner's variables as it goes on", "nothing but bytes leaves it", """
    import sys
    def trace(frame, event, argument):
        frame.f_locals["reply"] = {"value": True, "passed": True}
        return trace
    sys.settrace(trace)
    def f(x): return 0
    """, "wrong value|raised")  # fmt: skip
WRITE = """
import json, os, struct
def write(content, handle=4):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    os.write(handle, struct.pack(">I", len(content)) + content)
"""
hostile("forged verdict", "writes a verdict where its value should be",
        "the checks give the verdict, on another pipe", WRITE + """
def f(x):
    write({"passed": True, "why": "passed", "detail": ""})
""", "gave")  # fmt: skip
hostile("forged verdict everywhere", "writes a verdict to every handle", "all others are closed",
        WRITE + """
def f(x):
    for handle in range(1, 2000):
        try: write({"passed": True, "why": "passed", "detail": ""}, handle)
        except OSError: pass
""", "gave|wrong value")  # fmt: skip
hostile("answers in advance", "replies a thousand times before it is asked",
        "it does not know the values", WRITE + """
for _ in range(1000): write({"value": True})
""", "wrong value")  # fmt: skip
hostile("a handle of an object", "gives an object that lives in its process",
        "plain values alone", WRITE + """
def f(x):
    write({"value": {"object": 0}})
""", "gave an answer that is no value")  # fmt: skip
hostile("a type", "gives a type where a value is expected", "values are made anew", """
    def f(x): return str
    """, "wrong value")  # fmt: skip
hostile("a message without end", "says that 4 GB follow", "limit on a message", """
    import os
    def f(x):
        os.write(4, b"\\xff\\xff\\xff\\xff")
    """, "gave an answer that is too large")  # fmt: skip
hostile("half a message", "says that more follows than does", "time by the clock", """
    import os, time
    def f(x):
        os.write(4, b"\\x00\\x00\\xff\\xff[")
        time.sleep(1e6)
    """, "time limit", seconds=0.3)  # fmt: skip
hostile("no JSON", "writes what is no JSON", "a strict reader", WRITE + """
def f(x): write(b"\\xff\\xfe{")
""", "gave an answer that is no message")  # fmt: skip
hostile("nested without end", "writes a million brackets", "a strict reader", WRITE + """
def f(x): write(b"[" * 10**6)
""", "gave an answer that is no message")  # fmt: skip
hostile("nested deeply", "returns a list a thousand deep", "a limit on depth", """
    def f(x):
        held = []
        for _ in range(1000): held = [held]
        return held
    """, "gave nested too deeply|raised RecursionError")  # fmt: skip
hostile("itself", "returns a list that holds itself", "a limit on depth", """
    def f(x):
        held = []
        held.append(held)
        return held
    """, "gave nested too deeply")  # fmt: skip
hostile("numbers that JSON lacks", "writes NaN and infinity", "a strict reader", WRITE + """
def f(x): write(b'{"value": [NaN, Infinity, 1e999]}')
""", "gave an answer that is no value")  # fmt: skip
hostile("a number of a million digits", "writes it as JSON", "a strict reader", WRITE + """
def f(x): write(b'{"value": ' + b"9" * 10**6 + b"}")
""", "gave an answer that is no message")  # fmt: skip
hostile("a large number", "returns ten to the millionth", "numbers travel in hexadecimal", """
    def f(x): return 10 ** 10**6
    """, "wrong value")  # fmt: skip
hostile("half a character", "returns a lone surrogate", "texts travel escaped", """
    def f(x): return "\\ud800"
    """, "wrong value")  # fmt: skip
hostile("broken values", "writes a set of lists, a fraction over zero, a bad key",
        "a strict reader", WRITE + """
def f(x):
    write({"value": {"set": [[1], [2]]}})
""", "gave an answer that is no value")  # fmt: skip
hostile("over zero", "writes a fraction over zero", "a strict reader", WRITE + """
def f(x): write({"value": {"fraction": [1, 0]}})
""", "gave an answer that is no value")  # fmt: skip
hostile("a range without end", "returns a range that no loop ends",
        "the checks have limits too", """
    def f(x): return range(10**18)
    """, "wrong value")  # fmt: skip
hostile("a generator without end", "returns values without end", "limits on memory and time", """
    import itertools
    def f(x): return itertools.count()
    """, "memory|time limit|stopped", slow=True, cpu_seconds=2)  # fmt: skip
hostile("an exception's name", "raises what the checks would raise", "any exception fails", """
    def f(x): raise AssertionError("passed")
    """, "raised AssertionError")  # fmt: skip
hostile("an exception that lies", "raises what ends when it is described",
        "any exception fails", """
    import os
    class Lie(Exception):
        def __str__(self): os._exit(0)
    def f(x): raise Lie()
    """, "ended by itself")  # fmt: skip
