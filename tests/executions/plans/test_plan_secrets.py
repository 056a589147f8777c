"""Secrets: a reference is right, a value in clear is refused, and ordinary text is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from executions.plans import SecretReference
from executions.plans.secret_values import is_secret_key, secret_in_text, secrets_in
from tests.executions.plans.compiling import compiled, refused, say, step, told

SECRET = {"type": "secret", "path": "db/orders"}
WORDS_THAT_MEAN_NOTHING_SECRET = frozenset(
    {"yes", "no", "true", "false", "none", "null", "on", "off", "required", "optional", "prompt"}
)


def request(**inputs: object) -> dict[str, object]:
    return {"tool": "http", "inputs": {"url": "http://a.example.com/", "method": "POST", **inputs}}


@pytest.mark.parametrize(
    "text",
    [
        "sshpass -p x ssh host", "sshpass -phunter2 ssh host", "mysql -u root -psecret db",
        "mysqldump --password=foo db",
        "mysql --user=root --password foo", "curl -u user:pw http://a.b", "curl --user=user:pw1 http://a.b",
        "curl -sS -u 'user:pw' http://a.b", "curl -H 'Authorization: Bearer abcdef123' http://a.b",
        "wget --header='X-Api-Key: abcdef123' http://a.b", "redis://:pw@host/0", "postgres://user:p%40ss@host/db",
        "DB_PASSWORD=hunter2 run",
        "psql 'host=db password=hunter2'", "user=a&password=hunter2", "db_passwd=hunter2;x=1",
        "export AWS_SECRET_ACCESS_KEY=abc/def", "PGPASSWORD=x psql", "API_TOKEN='abc' run",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE", "-----BEGIN OPENSSH PRIVATE KEY-----", "AKIAABCDEFGHIJKLMNOP",
        "kubeadm join --token abcdef.0123", "Authorization: Basic dXNlcjpwdw==", "bearer abcdefghij0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x", "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "glpat-abcdefghij0123456789", "xoxb-1234567890-abc", "sk_live_abcdefghij0123456789",
    ],
)  # fmt: skip
def test_a_secret_in_text_is_refused_wherever_it_stands(text: str) -> None:
    assert told([say(text)]) == [("plaintext_secret", "steps[0].inputs.argv[1]")]
    assert told([step(description=f"Run {text}")]) == [("plaintext_secret", "steps[0].description")]
    assert told([step(preconditions=[text])]) == [("plaintext_secret", "steps[0].preconditions[0]")]
    assert told({"steps": [step()], "rollback_plan": [{"step_id": "1", "rollback_action": text}]}) == [
        ("plaintext_secret", "rollback_plan[0].rollback_action")
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["curl", "-u", "user:pw", "http://a.b"], ["sshpass", "-p", "x", "ssh"], ["mysql", "-psecret"],
        ["mysql", "--password=secret"], ["vault", "login", "--token", "abc"], ["curl", "-H",
        "Authorization: Bearer abcdef1"],
    ],
)  # fmt: skip
def test_a_secret_in_a_command_line_in_pieces_is_refused_once(argv: list[str]) -> None:
    [problem] = refused([step(inputs={"argv": argv})])
    assert problem.code == "plaintext_secret"
    assert problem.path.startswith("steps[0].inputs.argv")


@pytest.mark.parametrize(
    "text",
    [
        "mysql -p db", "mysql -u root -P 3306 -h db", "mysql --port 3306 -e 'select 1'", "curl -u user: http://a.b",
        "curl -u $U:$P http://a.b", "curl -u user:${PW} http://a.b",
        "curl -s -o /dev/null -w '%{http_code}' http://a.b/healthz",
        "curl --unix-socket /var/run/docker.sock http://localhost/info", "echo $TOKEN", "TOKEN=$(cat f) run",
        "TOKEN=`cat f` run",
        'PASSWORD="$PW" run', "PASSWORD= run", "PASSWORD=%PW% run", "grep PASSWORD= /etc/app.conf", "grep 'TOKEN=' f",
        "sed -i 's/PASSWORD=.*/PASSWORD=$NEW/' f", "passwd --status root", "docker login --password-stdin",
        "cat /etc/passwd",
        "http://a.b:80/c@d", "ssh user@host", "scp f user@host:/tmp", "git clone git@github.com:a/b.git",
        "PWD=/tmp ls",
        "systemctl status token-refresh", "kubectl get secret -n default", "tail -f /var/log/secret.log",
        "cat /run/secrets/token",
        "mysqld --print-defaults", "openssl rand -out token", "--token-file /run/t", "authorization: none",
        "the bearer of bad news",
        "chage -l password", "A password must be changed", "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        "journalctl -u sshd | grep 'Failed password for'", "http://[::1]:80/x@y", "SELECT user FROM mysql.user",
        "password=getpass.getpass()", "connect(password=secret_of(host))", "password=$PW", "password={{ pw }}",
        "grep -c password= f", "password=''", "password=None,",
        "echo --password <db_password>", "vault kv get secret/app", "ssh-keygen -t ed25519 -f /root/.ssh/id",
    ],
)  # fmt: skip
def test_ordinary_commands_are_left_alone(text: str) -> None:
    assert secret_in_text(text) is None


@pytest.mark.parametrize(
    "key",
    ["password", "PASSWORD", "passwd", "pwd", "secret", "token", "api_key", "apiKey", "API-Key", "private_key",
     "Authorization", "db_password", "clientSecret", "access_token", "X-Api-Key", "credential", "cookie"],
)  # fmt: skip
def test_a_value_under_a_secret_name_is_refused(key: str) -> None:
    assert is_secret_key(key)
    for value in ("hunter2", 12345, ["hunter2"], {"value": "hunter2"}):
        problems = refused([request(body={"a": {key: value}})])
        assert [problem.code for problem in problems] == ["plaintext_secret"], value
        assert problems[0].path.startswith(f"steps[0].inputs.body.a.{key}")


@pytest.mark.parametrize(
    "value",
    ["", None, True, "$PW", "${PW}", "%PW%", "{{ steps.a.stdout }}", "Bearer {{ steps.a.stdout }}", "none", {},
     {"type": "secret", "path": "db/orders"}, {"type": "secret", "path": "db/orders", "key": "password"}],
)  # fmt: skip
def test_what_is_not_a_value_in_clear_may_stand_under_a_secret_name(value: object) -> None:
    compiled([step(id="a"), request(body={"password": value})])


@pytest.mark.parametrize(
    "key",
    ["token_file", "password_policy", "secret_name", "key", "tokens_per_minute", "keyboard", "author", "max_tokens"],
)
def test_names_that_only_sound_like_secrets_are_left_alone(key: str) -> None:
    assert not is_secret_key(key)
    compiled([request(body={key: "value"})])


def test_a_path_to_a_key_is_not_a_key() -> None:
    assert list(secrets_in({"private_key": "/etc/ssl/private/a.pem", "ssh_key": "~/.ssh/id_ed25519"})) == []
    assert [path for path, _ in secrets_in({"private_key": "MIIEvQIBADANBgkq"})] == [".private_key"]


def test_a_setting_whose_key_is_a_secrets_name_is_refused() -> None:
    setting = {"action": "set", "path": "/etc/app.conf", "key": "db.password", "value": "hunter2"}
    assert told([{"tool": "config_manager", "inputs": setting, "targets": ["web-1"]}]) == [
        ("plaintext_secret", "steps[0].inputs.value")
    ]
    setting |= {"key": "db.host", "value": "db-1"}
    compiled([{"tool": "config_manager", "inputs": setting, "targets": ["web-1"]}])


def test_a_placeholder_under_a_secret_name_is_told_as_a_placeholder() -> None:
    assert told([request(body="<db_password>")]) == [("unresolved_placeholder", "steps[0].inputs.body")]


def test_secrets_in_labels_and_titles_are_refused() -> None:
    assert told({"title": "curl -u a:b http://x", "labels": {"token": "abc"}, "steps": [step()]}) == [
        ("plaintext_secret", "title"),
        ("plaintext_secret", "labels.token"),
    ]


@pytest.mark.parametrize("name", ["password", "ssh_password", "token", "credentials"])
def test_a_secret_in_a_field_that_nobody_reads_is_refused_all_the_same(name: str) -> None:
    value = {"username": "u", "password": "hunter2"} if name == "credentials" else "hunter2"
    at = f"{name}.password" if name == "credentials" else name
    assert told([step() | {name: value}]) == [("plaintext_secret", f"steps[0].{at}")]
    assert told({"steps": [step()], name: value}) == [("plaintext_secret", at)]
    assert told({"plan": {"steps": [step()]}, name: value}) == [("plaintext_secret", at)]
    assert told({"plan": [step()], "execution_metadata": {name: value}}) == [
        ("plaintext_secret", f"execution_metadata.{at}")
    ]
    compiled({"plan": {"steps": [step() | {name: None}]}, name: {"type": "secret", "path": "a/b"}})


def test_a_secret_that_is_a_number_is_refused_too() -> None:
    assert told([step(password=12345678)]) == [("plaintext_secret", "steps[0].password")]


def test_references_are_collected_from_inputs_and_rollbacks() -> None:
    plan = compiled(
        [
            request(headers={"Authorization": {"type": "secret", "path": "api/key"}}),
            request(
                body={"deep": [{"type": "secret", "path": "db/orders", "key": "password"}]},
            )
            | {
                "rollback": {
                    "tool": "http",
                    "inputs": {
                        "url": "http://a.b/",
                        "headers": {"X-Token": {"type": "secret", "path": "api/key"}},
                    },
                }
            },
        ]
    )
    assert plan.secret_refs == (SecretReference("api/key"), SecretReference("db/orders", "password"))
    assert plan.document["steps"][0]["inputs"]["headers"] == {"Authorization": {"type": "secret", "path": "api/key"}}


@pytest.mark.parametrize(
    "reference",
    [
        {"path": "../other"}, {"path": "a/../b"}, {"path": "/a"}, {"path": "a/"}, {"path": "a//b"}, {"path": "a b"},
        {"path": ""}, {"path": None}, {}, {"path": 5}, {"path": "a\\b"}, {"path": "a/{{ hostname }}"},
        {"path": "x" * 201},
        {"path": "a/./b"}, {"path": "ä"}, {"path": "a", "key": ""}, {"path": "a", "key": "x y"}, {"path": "a\n"},
        {"path": "a", "value": "hunter2"}, {"path": "a", "default": "x"},
    ],
)  # fmt: skip
def test_a_malformed_reference_is_refused_once(reference: dict[str, object]) -> None:
    problems = refused([request(body={"password": {"type": "secret", **reference}})])
    assert problems[0].code == "invalid_input"
    assert problems[0].path.startswith("steps[0].inputs.body.password")
    assert len([problem for problem in problems if problem.code == "invalid_input"]) == 1
    assert "hunter2" not in str(problems)


@given(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}){0,4}", fullmatch=True))
def test_every_ordinary_path_is_accepted(path: str) -> None:
    reference = {"type": "secret", "path": path}
    assert compiled([request(body={"password": reference})]).secret_refs[0].path == path


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.isalnum() and text.isascii()))
def test_no_password_is_accepted_by_value(password: str) -> None:
    assume(password.lower() not in WORDS_THAT_MEAN_NOTHING_SECRET)
    assert [path for path, _ in secrets_in({"password": password})] == [".password"]
    assert secret_in_text(f"curl -u admin:{password} http://a.b")
    assert secret_in_text(f"postgres://admin:{password}@db/x")


@pytest.mark.parametrize(
    ("step_of", "path", "way"),
    [
        ({"tool": "command", "inputs": {"argv": ["mysql", "-p", SECRET]}}, "inputs.argv[2]", "environment or stdin"),
        ({"tool": "shell", "inputs": {"command": SECRET}}, "inputs.command", "environment or stdin"),
        ({"tool": "ps", "inputs": {"pattern": SECRET}}, "inputs.pattern", "Use a tool"),
    ],
)
def test_a_reference_that_would_end_on_a_command_line_is_refused_with_the_way_out(
    step_of: dict[str, Any], path: str, way: str
) -> None:
    [problem] = [one for one in refused([step(**step_of)]) if one.code == "invalid_input"]
    assert problem.path == f"steps[0].{path}"
    assert "every user of the machine can read" in problem.message
    assert way in problem.how_to_fix


def test_a_plan_lists_the_secrets_that_it_names() -> None:
    plan = compiled([request(headers={"X-Key": SECRET}), step()])
    assert plan.document["secrets"] == [{"path": "db/orders", "key": None}]
    assert "secrets" not in compiled([step()]).document
