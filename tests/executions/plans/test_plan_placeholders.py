"""Placeholders that a planner left in, told from ordinary commands and files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.plans.placeholders import placeholder_in
from tests.executions.plans.compiling import compiled, say, step, told


@pytest.mark.parametrize(
    "text",
    [
        "<x_value>", "<hostname>", " <service name> ", "<Service-Name>", "systemctl restart <service_name>",
        "/var/log/<app_name>.log", "http://<host_name>:8080/x", "--user=<user_name>", "ping <HOST>", "<db_host>:5432",
        "<your-password>", "cp <source-path> <target-path>", "curl http://<ip>/", "echo '<x_value>'", "a,<x_value>,b",
        "web-<host_name>", "<INSERT TOKEN HERE>", "<SERVER_1>",
    ],
)  # fmt: skip
def test_a_placeholder_is_refused(text: str) -> None:
    assert placeholder_in(text)
    assert told([say(text)]) == [("unresolved_placeholder", "steps[0].inputs.argv[1]")]
    assert told([step(rollback={"tool": "command", "inputs": {"argv": [text]}})]) == [
        ("unresolved_placeholder", "steps[0].rollback.inputs.argv[0]")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a < b > c", "awk '$1<x_max && $2>y_min'", "if (a<b_c && d>e) x", "test 1 -lt 2", "sort <in_file >out_file",
        "sort <in_file>out_file", "cat <<EOF_X\ntext\nEOF_X", "cat <<'END_OF' >f", "cat <<<word_x",
        "diff <(cmd_a) <(cmd_b)",
        "<b>bold</b>", "<div class='a_b'>x</div>", "<server_name>web</server_name>", "<br/>", "<!-- a_b -->",
        "<a_b/>",
        "std::vector<my_type> x", "List<String>", "Map<my_key, my_value>", "while(<STDIN>){print}", "while (<$fh>)",
        "Foo <foo_bar@example.com>", "#include <sys_types.h>", "2>&1 >/dev/null <&3", "for(i=0;i<n_max;i++)",
        "1 <2> 3",
        "x => y_z", "a->b_c", "<>", "< hostname >", "{{.Names}}", "C:\\<", "echo \"<$HOST>\"", "<%= erb_x %>",
        "<?xml version='1'?>",
        "grep -P '(?<user_name>x)' f", "(?<name>\\d+)",
    ],
)  # fmt: skip
def test_ordinary_text_is_not_taken_for_a_placeholder(text: str) -> None:
    assert placeholder_in(text) is None
    compiled([say(text)])


def test_prose_may_hold_what_it_likes() -> None:
    compiled([step(description="Restart <service_name> on {{ hostname }}")])


@given(st.text(alphabet="<> =-|&;$()'\"/.0123456789{}\\\n", max_size=40))
def test_signs_without_words_are_never_a_placeholder(text: str) -> None:
    assert placeholder_in(text) is None


@given(
    st.from_regex(r"[a-z]{1,8}(_[a-z]{1,8}){1,3}", fullmatch=True), st.text(max_size=10), st.sampled_from(" =/:'\"@-")
)
def test_a_word_with_underscores_between_brackets_is_found_anywhere(word: str, before: str, between: str) -> None:
    text = f"{before}{between}<{word}>"
    assert placeholder_in(text) is not None or f"</{word}>" in text
