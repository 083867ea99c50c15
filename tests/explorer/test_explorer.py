"""The explorer's answers are the library's; its server refuses whom and what it should."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pgnn
from pgnn.errors import DataError, Unsupported
from pgnn.explorer import Explorer, ExplorerServer
from pgnn.explorer import explorer as explorer_module
from pgnn.explorer.case import MOST_CHANGES
from pgnn.explorer.server import LARGEST
from pgnn.sensitivity import Entry, with_entry


@pytest.fixture(scope="module")
def asia() -> pgnn.BayesianNetwork:
    return pgnn.read(Path(pgnn.__file__).parent / "networks" / "asia.bif")


@pytest.fixture(scope="module")
def explorer(asia: pgnn.BayesianNetwork) -> Explorer:
    return Explorer(asia, "asia")


@pytest.fixture(scope="module")
def server(explorer: Explorer) -> Iterator[ExplorerServer]:
    with ExplorerServer(explorer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def number(model: Any, name: str) -> int:
    return [*model.variables].index(name)


class TestAnswers:
    def test_description(self, asia: Any, explorer: Explorer) -> None:
        told = json.loads(json.dumps(explorer.describe()))
        assert [v["name"] for v in told["variables"]] == [*asia.variables]
        either = told["variables"][number(asia, "either")]
        assert {told["variables"][k]["name"] for k in either["parents"]} == {"lung", "tub"}
        assert len(told["layout"]["edges"]) == asia.graph.number_of_edges()
        assert len(told["layout"]["nodes"]) == 8

    @pytest.mark.parametrize(
        "evidence", [{}, {"smoke": "yes"}, {"smoke": "no", "xray": "yes"}], ids=str
    )
    def test_marginals_are_those_of_a_query(
        self, asia: Any, explorer: Explorer, evidence: dict[str, str]
    ) -> None:
        numbers = {
            str(number(asia, n)): asia.variables[n].states.index(s) for n, s in evidence.items()
        }
        told = explorer.answer({"evidence": numbers})
        posterior = asia.query([*asia.variables], evidence)
        for name, probs in zip(asia.variables, told["marginals"], strict=True):
            assert probs == pytest.approx(posterior[name].probs.tolist(), abs=1e-6)
        assert told["log_evidence"] == pytest.approx(float(posterior.log_evidence))
        assert (told["kind"], told["log_partition"]) == ("exact", 0.0)
        best = explorer.explain({"evidence": numbers})
        mode = asia.most_probable(evidence)
        assert best["log_prob"] == pytest.approx(float(mode.log_prob))
        labels = [v.states[k] for v, k in zip(asia.variables.values(), best["states"], strict=True)]
        assert labels == [mode[n] for n in asia.variables]

    def test_soft_evidence_and_changed_tables(self, asia: Any, explorer: Explorer) -> None:
        smoke, lung = number(asia, "smoke"), number(asia, "lung")
        told = explorer.answer({
            "evidence": {str(smoke): [0.2, 0.8]},
            "changes": [[lung, [0, 0], 0.4]],
        })  # fmt: skip
        changed: Any = with_entry(asia, Entry("lung", "yes", {"smoke": "yes"}), 0.4)
        posterior = changed.query("lung", {"smoke": pgnn.likelihood([0.2, 0.8])})
        assert told["marginals"][lung] == pytest.approx(posterior["lung"].probs.tolist(), abs=1e-6)
        rows = explorer.table({"variable": lung, "changes": [[lung, [0, 0], 0.4]]})["rows"]
        assert rows[0] == [0.4, 0.6]
        assert rows[1] == pytest.approx(asia.conditionals["lung"].probs[1].tolist())

    def test_impossible_findings_are_told(self, asia: Any, explorer: Explorer) -> None:
        numbers = {str(number(asia, "either")): 1, str(number(asia, "lung")): 0}
        told = explorer.answer({"evidence": numbers})
        assert "impossible" in told
        assert {str(k) for k in told["conflict"]} == set(numbers)
        assert "impossible" in explorer.explain({"evidence": numbers})

    def test_doubts_of_an_estimate_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        same = [[1 - 1e-6, 1e-6], [1e-6, 1 - 1e-6]]
        model = pgnn.BayesianNetwork([("a", "b")], {"a": [0.5, 0.5], "b": same})
        engine = pgnn.Gibbs(samples=20, chains=4, seed=1)
        query = model.query
        monkeypatch.setattr(model, "query", lambda *a: query(*a, engine=engine))
        told = Explorer(model).answer({"evidence": {"1": [0.5, 0.4]}})
        assert told["kind"] == "estimate"
        (doubt,) = told["doubts"]
        assert "did not converge" in doubt

    def test_fields_are_shown_without_tables(self) -> None:
        pair = [pgnn.Variable(n, 2) for n in "ab"]
        field = pgnn.MarkovRandomField([pgnn.TabularPotential(pair, [[2.0, 1.0], [1.0, 4.0]])])
        explorer = Explorer(field)
        told = explorer.describe()
        assert (told["directed"], told["tables"], told["normalized"]) == (False, False, False)
        assert [v["neighbours"] for v in told["variables"]] == [[1], [0]]
        answer = explorer.answer({"evidence": {"0": 1}})
        assert answer["marginals"][1] == [0.2, 0.8]
        log_prob = answer["log_evidence"] - answer["log_partition"]
        assert log_prob == pytest.approx(np.log(5 / 8))
        with pytest.raises(DataError, match="no conditional tables"):
            explorer.answer({"changes": [[0, [0], 0.5]]})

    def test_slow_explanations_are_estimated_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        generator = np.random.default_rng(1)
        variables = [pgnn.Variable(n, 3) for n in "abcdefg"]
        model = pgnn.MarkovRandomField([
            pgnn.TabularPotential([*pair], np.exp(generator.normal(0, 1.0, (3, 3))))
            for pair in itertools.combinations(variables, 2)
        ])  # fmt: skip
        monkeypatch.setattr(explorer_module, "_SOON", pgnn.JunctionTree(max_work=1))
        bare = pgnn.DualDecomposition(max_iterations=2, search=None, progress=False)
        monkeypatch.setattr(pgnn.DualDecomposition, "brief", lambda seed: bare)
        explorer, case = Explorer(model), {"evidence": {"0": 1}}
        soon, best = explorer.explain(case), explorer.explain(case | {"longer": True})
        exact = model.most_probable({"a": 1}, engine=pgnn.JunctionTree())
        assert (soon["engine"], best["engine"]) == ("DualDecomposition", "JunctionTree")
        assert best["log_prob"] == pytest.approx(float(exact.log_prob))
        assert best["gap"] == 0.0 < soon["gap"]
        assert soon["log_prob"] <= best["log_prob"] <= soon["log_prob"] + soon["gap"]
        score = model.log_score({v.name: s for v, s in zip(variables, soon["states"], strict=True)})
        assert soon["log_prob"] == pytest.approx(float(score))

    def test_a_model_without_an_affordable_exact_answer_is_estimated(self) -> None:
        generator = np.random.default_rng(0)
        variables = [pgnn.Variable(n, 50) for n in "abcdefgh"]
        model = pgnn.MarkovRandomField([
            pgnn.TabularPotential([*pair], np.exp(generator.normal(0, 0.3, (50, 50))))
            for pair in itertools.combinations(variables, 2)
        ])  # fmt: skip
        told = Explorer(model).answer({"evidence": {"0": 1}})
        posterior = model.query(None, {"a": 1})
        assert (told["kind"], told["engine"]) == ("estimate", posterior.engine)
        assert told["log_partition"] is None
        assert told["marginals"][0] == [0.0, 1.0, *[0.0] * 48]
        assert told["marginals"][7] == pytest.approx(posterior["h"].probs.tolist(), abs=1e-6)

    @pytest.mark.parametrize(
        "message",
        [
            None,
            [],
            {"evidence": []},
            {"evidence": {"8": 0}},
            {"evidence": {"-1": 0}},
            {"evidence": {"__class__": 0}},
            {"evidence": {"0": 2}},
            {"evidence": {"0": True}},
            {"evidence": {"0": "yes"}},
            {"evidence": {"0": 0.5}},
            {"evidence": {"0": [1.0]}},
            {"evidence": {"0": [0.0, 0.0]}},
            {"evidence": {"0": [1.0, -1.0]}},
            {"evidence": {"0": [float("nan"), 1.0]}},
            {"evidence": {"0": [float("inf"), 1.0]}},
            {"evidence": {"0": [10**400, 1]}},
            {"changes": {}},
            {"changes": [[0, [0], 0.5]] * (MOST_CHANGES + 1)},
            {"changes": [[0, [0], 1.5]]},
            {"changes": [[0, [0, 0], 0.5]]},
            {"changes": [[0, [7], 0.5]]},
            {"changes": [[0, "import os", 0.5]]},
        ],
        ids=str,
    )
    def test_wrong_messages(self, explorer: Explorer, message: Any) -> None:
        with pytest.raises(DataError):
            explorer.answer(message)

    def test_models_that_cannot_be_shown(self) -> None:
        with pytest.raises(Unsupported, match="array"):
            Explorer(pgnn.HiddenMarkovModel(2, {"x": 2}))
        with pytest.raises(Unsupported, match="tables"):
            Explorer(3)


def test_the_command_serves_until_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pgnn.cli import main

    def interrupted(server: ExplorerServer) -> None:
        assert server.explorer.name == "asia"
        raise KeyboardInterrupt

    monkeypatch.setattr(ExplorerServer, "serve_forever", interrupted)
    path = Path(pgnn.__file__).parent / "networks" / "asia.bif"
    assert main(["explore", str(path), "--no-browser", "-e", "xray=yes:0.9,no:0.2"]) == 130
    assert re.match(
        r"exploring at http://127.0.0.1:\d+/\?token=.*#xray=yes:0.9,no:0.2\n",
        capsys.readouterr().out,
    )


def test_a_port_in_use_is_told(server: ExplorerServer, capsys: pytest.CaptureFixture[str]) -> None:
    from pgnn.cli import main

    path = Path(pgnn.__file__).parent / "networks" / "asia.bif"
    port = server.server_address[1]
    assert main(["explore", str(path), "--no-browser", "--port", str(port)]) == 1
    told = f"pgnn: --port {port} is in use; choose another one, or leave out --port\n"
    assert capsys.readouterr().err == told


def test_fragments_name_weights_of_states_with_any_text() -> None:
    model = pgnn.BayesianNetwork(
        [("a b", "c")], states={"a b": ["x:1", "y, z"], "c": ["no & never", "yes"]}
    )
    explorer = Explorer(model)
    evidence = {"c": "no & never", "a b": {"y, z": 1.0, "x:1": 0.5}}
    assert explorer.fragment(evidence) == "#c=no+%26+never&a+b=%5B0.5,+1.0%5D"
    assert explorer.fragment({}) == ""


class TestServer:
    def ask(
        self,
        server: ExplorerServer,
        path: str = "/api/answer",
        body: bytes | None = b"{}",
        method: str = "POST",
        **headers: str | None,
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        known = {"X-Token": server.token, "Content-Type": "application/json"}
        sent = {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(
            method, path, body, {k: v for k, v in (known | sent).items() if v is not None}
        )
        reply = connection.getresponse()
        told = reply.status, reply.read(), dict(reply.getheaders())
        connection.close()
        return told

    def test_answers(self, server: ExplorerServer, explorer: Explorer) -> None:
        status, body, headers = self.ask(server, body=b'{"evidence": {"0": 1}}')
        assert status == 200
        assert json.loads(body) == explorer.answer({"evidence": {"0": 1}})
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        status, body, _ = self.ask(server, f"/?token={server.token}", None, "GET")
        assert (status, b"page.js" in body) == (200, True)
        assert self.ask(server, "/page.css", None, "GET")[0] == 200

    def test_a_connection_is_kept(self, server: ExplorerServer) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        for _ in range(3):
            headers = {"X-Token": server.token, "Content-Type": "application/json"}
            connection.request("POST", "/api/answer", b"{}", headers)
            reply = connection.getresponse()
            assert (reply.status, bool(reply.read())) == (200, True)
            assert not reply.will_close
        connection.close()

    def test_only_this_machine_listens(self, server: ExplorerServer) -> None:
        assert server.server_address[0] == "127.0.0.1"

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", ""])
    def test_foreign_hosts(self, server: ExplorerServer, host: str) -> None:
        assert self.ask(server, Host=host)[0] == 403
        assert self.ask(server, f"/?token={server.token}", None, "GET", Host=host)[0] == 403

    def test_foreign_origins(self, server: ExplorerServer) -> None:
        assert self.ask(server, Origin="http://evil.example")[0] == 403
        assert self.ask(server, Origin="null")[0] == 403
        port = server.server_address[1]
        assert self.ask(server, Origin=f"http://127.0.0.1:{port}")[0] == 200

    @pytest.mark.parametrize("token", [None, "", "x", "x" * 10_000])
    def test_wrong_tokens(self, server: ExplorerServer, token: str | None) -> None:
        status, body, headers = self.ask(server, X_Token=token)
        assert (status, headers["Content-Type"]) == (403, "application/json")
        assert json.loads(body) == {"error": "the token is missing or wrong"}
        status, body, headers = self.ask(server, f"/?token={token or ''}", None, "GET")
        assert (status, headers["Content-Type"]) == (403, "text/html; charset=utf-8")
        assert b"of an explorer that has ended. Start pgnn explore" in body

    def test_oversized_and_malformed_requests(self, server: ExplorerServer) -> None:
        assert self.ask(server, Content_Length=str(LARGEST + 1))[0] == 413
        assert self.ask(server, Content_Length="9" * 30)[0] == 413
        assert self.ask(server, Content_Length="-5")[0] == 411
        assert self.ask(server, body=b"[" * 200_000)[0] == 400
        assert self.ask(server, body=b"\xff\xfe")[0] == 400
        assert self.ask(server, body=b"__import__('os').getpid()")[0] == 400
        assert self.ask(server, Content_Type="text/plain")[0] == 415
        assert self.ask(server, body=b'{"evidence": {"0": 9}}')[0] == 400

    @pytest.mark.parametrize("path", ["/../server.py", "/page/page.js", "/etc/passwd", "/api"])
    def test_unknown_paths(self, server: ExplorerServer, path: str) -> None:
        assert self.ask(server, path, None, "GET")[0] == 404
        assert self.ask(server, path)[0] == 404
        assert self.ask(server, path, None, "PUT")[0] == 501

    def test_a_client_that_closes_in_mid_answer_prints_nothing(
        self, server: ExplorerServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        request = (
            f"POST /api/model HTTP/1.1\r\nHost: 127.0.0.1:{server.server_address[1]}\r\n"
            f"X-Token: {server.token}\r\nContent-Type: application/json\r\n"
            "Content-Length: 2\r\n\r\n{}"
        )
        for _ in range(5):
            client = socket.create_connection(server.server_address[:2], timeout=10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(request.encode())
            client.close()  # with a reset
        assert self.ask(server)[0] == 200
        assert capfd.readouterr().err == ""

    def test_random_bytes_end_no_server(self, server: ExplorerServer) -> None:
        rng = np.random.default_rng(0)
        valid = b'{"evidence": {"0": 1, "2": [0.5, 1]}, "changes": [[3, [0, 1], 0.25]]}'
        for _ in range(60):
            body = bytearray(valid)
            for k in rng.integers(0, len(body), 3):
                body[k] = rng.integers(0, 256)
            assert self.ask(server, body=bytes(body[: rng.integers(1, len(body))]))[0] in (200, 400)
        assert self.ask(server)[0] == 200
