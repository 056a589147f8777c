"""What a secret looks like when nobody knows its value: the built-in patterns.

Each pattern is an RE2 expression over bytes (Latin-1: any input is valid), which finds a place, and a reader, which
says what of it is the secret - or that it is none. Everything is linear in the length of the text: RE2 by its nature,
the expressions by having no unbounded look-ahead behind a match, and the readers by looking only at what they give
back, and otherwise at no more than 256 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import re2

from safety.masking import readers

# Gets the text, the match and the end of its line; gives the span of the secret, or None when it is none.
Reader = Callable[[bytes, Any, int], tuple[int, int] | None]


def options(*, groups: bool = True) -> Any:
    """RE2's options for all expressions here. Without groups a match is found by the fast automaton alone."""
    chosen = re2.Options()
    chosen.never_capture = not groups
    chosen.encoding = re2.Options.Encoding.LATIN1
    chosen.max_mem = 64 * 1024 * 1024  # room for the states of all expressions in one; less would make it slow
    chosen.log_errors = False
    return chosen


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of secret.

    name        of its row, and in the documentation
    meaning     what it finds, for the page where it is switched
    expression  RE2, without capturing groups but for the secret itself
    anchors     one of these, in lower case, is in every line with a match; none means that every line is looked at
    """

    name: str
    meaning: str
    expression: bytes
    anchors: tuple[bytes, ...] = ()
    read: Reader = readers.whole
    on: bool = True


# Between a name and its value: quotes and brackets that close the name, then = : => :=
_QUOTE = rb"(?:\\{0,3}[\"']|&(?:quot|#x27|#39|#34);)"
_IS = rb"(?:" + _QUOTE + rb"?\]?[ \t]{0,8}(?:=>|:=|=|:)[ \t]{0,8}(?:&(?:quot|#x27|#39|#34);)?|>)"

PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        "password",
        "Passwords that are assigned: password=..., DB_PASSWORD: ..., --password ..., IDENTIFIED BY '...'",
        rb"(?i)(?:(?:password|passwd|passphrase|passcode|passwort)" + _IS + rb"[^\s]|pwd" + _IS + rb"[^\s/~]"
        rb"|[a-z0-9][_.-]pass" + _IS + rb"[^\s]|\bpass(?:[ \t]{0,8}=|\\{0,3}[\"'][ \t]{0,8}[:=])[ \t]{0,8}[^\s]"
        rb"|(?:^|[\s\"'\[])--?[\w-]*(?:password|passwd|passphrase|pass)[\"']?[ \t,]{1,8}[^\s]"
        rb"|\b(?:identified[ \t]{1,4}by|password)[ \t]{1,4}(?:values[ \t])?['\"][^\s]"
        rb"|\b(?:requirepass|masterauth)[ \t]{1,8}[^\s]"
        rb"|\blogin[ \t]{1,4}\S+[ \t]{1,4}password[ \t]{1,4}[^\s]"
        rb"|\bpassword(?:[ \t]is|[ \t]was|[ \t](?:re)?set[ \t]to|[ \t]changed[ \t]to)[ \t:]{1,4}[^\s])",
        (b"pass", b"pwd", b"masterauth", b"identified"),
        readers.assigned_password,
    ),
    Pattern(
        "api_key",
        "API keys that are assigned: api_key=..., X-API-Key: ...",
        rb"(?i)(?:api|app|subscription|function|service|project|license)[_-]?key" + _IS + rb"[^\s]",
        (b"key",),
        readers.assigned_token,
    ),
    Pattern(
        "header_token",
        "Credentials in headers: Authorization, Bearer, Basic, Cookie, X-...-Token",
        rb"(?i)(?:(?:proxy-)?authorization" + _IS + rb"[^\s]|\b(?:set-)?cookie2?" + _IS + rb"[^\s]"
        rb"|\b(?:x-[\w-]{1,40}-(?:token|secret|signature|auth)|(?:private|job|deploy)-token)" + _IS + rb"[^\s]"
        rb"|\bbasic[ \t]{1,4}[a-z0-9+/]{6}|\b(?:bearer|negotiate)[ \t]{1,4}[a-z0-9+/_.~-]{24}"
        rb"|\b(?:bearer|token)[ \t]{1,4}[a-z+/_.~-]*[0-9][a-z0-9+/_.~-]{4})",
        (b"authorization", b"cookie", b"x-", b"-token", b"bearer", b"basic", b"negotiate", b"token"),
        readers.header,
    ),
    Pattern(
        "aws_access_key_id",
        "AWS access key ids: AKIA..., ASIA..., AROA...",
        rb"(?:^|[^0-9A-Za-z])((?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ANVA|ABIA|ACCA)[0-9A-Z]{16})(?:$|[^0-9A-Za-z])",
        (b"akia", b"asia", b"aroa", b"aida", b"agpa", b"anpa", b"anva", b"abia", b"acca"),
        readers.group,
    ),
    Pattern(
        "aws_secret_key",
        "AWS secret keys: 40 characters, told by their name or by their look",
        rb"(?:^|[^0-9A-Za-z/+=_.-])([0-9A-Za-z/+]{40})(?:$|[^0-9A-Za-z/+=_-])"
        rb"|(?i:(?:secret|aws)[\w.-]*\\{0,3}[\"']?[ \t]{0,8}[=:>][ \t]{0,8}\\{0,3}[\"']?)([0-9A-Za-z/+]{40})",
        (),
        readers.aws_secret,
    ),
    Pattern(
        "private_key",
        "Private keys: PEM, PKCS#8, OpenSSH, PGP, PuTTY",
        rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|^Private-Lines: ?[0-9]{1,4}",
        (b"private key", b"private-lines"),
    ),
    Pattern(
        "ssh_public_key",
        "SSH public keys: ssh-rsa AAAA..., ssh-ed25519 AAAA...",
        rb"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp[0-9]{3}|sk-[a-z0-9-]{1,30}@openssh\.com)"
        rb"[ \t]{1,4}(AAAA[0-9A-Za-z+/]{20,}={0,3})",
        (b"aaaa",),
        readers.group,
    ),
    Pattern(
        "url_password",
        "Passwords in addresses of any scheme: postgresql://user:...@host, redis://:...@host",
        rb"(?i)[a-z0-9]://(?:[^\s:@/\"'<>\[\]]*:[^\s\"'<>]+@|[^\s:@/\"'<>?]{16,}@)"
        rb"|(?i):oracle:[a-z]{2,6}:[^\s/:@]+/[^\s@]+@",
        (b"://", b":oracle:"),
        readers.url_password,
    ),
    Pattern(
        "email",
        "E-mail addresses",
        rb"[0-9A-Za-z._%+-]+@(?:[0-9A-Za-z-]+\.)+[A-Za-z]{2,}",
        (b"@",),
        readers.email,
    ),
    Pattern(
        "card_number",
        "Card numbers of the known issuers, with a right check digit",
        rb"(?:^|[^0-9A-Za-z_.+/-])([2-6][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}(?:[ -]?[0-9]{3})?"
        rb"|3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5})(?:$|[^0-9A-Za-z_/=+-])",
        (),
        readers.card_number,
    ),
    Pattern(
        "us_ssn",
        "US social security numbers: 123-45-6789",
        rb"(?:^|[^0-9A-Za-z_./-])([0-8][0-9]{2}-[0-9]{2}-[0-9]{4})(?:$|[^0-9A-Za-z_/-])",
        (),
        readers.social_security_number,
    ),
    Pattern(
        "ip_address",
        "IP addresses, version 4 and 6",
        rb"(?:^|[^0-9A-Za-z_.-])((?:[0-9]{1,3}\.){3}[0-9]{1,3})(?:$|[^0-9A-Za-z_-])"
        rb"|(?:^|[^0-9A-Za-z_:.])((?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4})(?:$|[^0-9A-Za-z_:])",
        (b".", b":"),
        readers.ip_address,
        on=False,
    ),
    Pattern(
        "generic_secret",
        "Other secrets that are assigned: secret, token, credential, session, client_secret, signing key, ...",
        rb"(?i)(?:(?:secret|token|credentials?|session(?:_?id|_?key)?|sess_?id|(?:secret|access|private|master"
        rb"|signing|encryption|account|shared|auth|session|storage|security|deploy)[_-]?key(?:_id)?|auth(?:code)?"
        rb"|signature)"
        + _IS + rb"[^\s]"
        rb"|(?:^|[\s\"'\[])--?[\w-]*(?:token|secret|api-?key|access-key|secret-key|credentials?)[\"']?"
        rb"[ \t,]{1,8}[^\s])",
        (b"secret", b"token", b"credential", b"sess", b"key", b"auth", b"signature"),
        readers.assigned_token,
    ),
    Pattern(
        "jwt",
        "JSON web tokens: eyJ...",
        rb"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{4,}(?:\.[0-9A-Za-z_-]*){0,3}",
        (b"eyj",),
    ),
    Pattern(
        "github_token",
        "GitHub tokens: ghp_..., gho_..., github_pat_...",
        rb"gh[pousr]_[0-9A-Za-z]{20,}|github_pat_[0-9A-Za-z_]{20,}",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
    ),
    Pattern(
        "gitlab_token",
        "GitLab tokens: glpat-..., gldt-..., glrt-...",
        rb"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas)-[0-9A-Za-z_.-]{16,}|GR1348941[0-9A-Za-z_-]{16,}",
        (
            b"glpat-", b"gldt-", b"glrt-", b"glcbt-", b"glptt-", b"glft-", b"glimt-", b"glagent-", b"glsoat-",
            b"gloas-", b"gr1348941",
        ),
    ),
    Pattern(
        "slack_token",
        "Slack tokens and webhooks: xoxb-..., hooks.slack.com/services/...",
        rb"xox[abcdeoprst]-[0-9A-Za-z-]{8,}|xoxe\.xox[bp]-[0-9A-Za-z-]{8,}|xapp-[0-9]-[0-9A-Za-z-]{8,}"
        rb"|hooks\.slack\.com/(?:services|workflows|triggers)/([0-9A-Za-z/_-]{16,})",
        (b"xox", b"xapp-", b"hooks.slack.com"),
        readers.group,
    ),
    Pattern(
        "google_key",
        "Google keys and tokens: AIza..., ya29..., GOCSPX-...",
        rb"AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,}",
        (b"aiza", b"ya29.", b"gocspx-"),
    ),
    Pattern(
        "stripe_key",
        "Stripe keys: sk_live_..., rk_live_..., whsec_...",
        rb"(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{10,}|whsec_[0-9A-Za-z+/=]{16,}",
        (b"_live_", b"_test_", b"whsec_"),
    ),
    Pattern(
        "vendor_token",
        "Other tokens with a known beginning: npm, PyPI, Vault, SendGrid, Docker, OpenAI, and our own (oc_)",
        rb"(?:^|[^0-9A-Za-z_])(npm_[0-9A-Za-z]{30,}|pypi-[0-9A-Za-z_-]{40,}|hv[sbr]\.[0-9A-Za-z_-]{20,}"
        rb"|SG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}|dckr_pat_[0-9A-Za-z_-]{20,}|sk-(?:proj-|ant-)?[0-9A-Za-z_-]{20,}"
        rb"|do[opr]_v1_[0-9a-f]{40,}|hf_[0-9A-Za-z]{30,}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|AGE-SECRET-KEY-1[0-9A-Z]{20,}|oc_[0-9A-Za-z_-]{16,})",
        (b"npm_", b"pypi-", b"hvs.", b"hvb.", b"hvr.", b"sg.", b"dckr_pat_", b"sk-", b"_v1_", b"hf_", b"shp",
         b"age-secret", b"oc_"),
        readers.mixed_group,
    ),
    Pattern(
        "sshpass",
        "sshpass -p ...",
        rb"\bsshpass[\"']?(?:[\s,]{1,4}[\"']?-[ev]+[\"']?){0,4}[\s,]{1,4}[\"']?-p[\"']?[ \t,]{0,4}[^\s]",
        (b"sshpass",),
        readers.argument,
    ),
    Pattern(
        "mysql_password",
        "mysql -p..., and what belongs to it",
        rb"\b(?:mysql|mysqldump|mysqladmin|mysqlimport|mysqlshow|mysqlcheck|mariadb|mariadb-dump|mariadb-admin)\b"
        rb"[^|;&\r\n]*?[\s\"']-p[^\s\"']|\b(?:mysql|mariadb)[^|;&\r\n]*?[\s\"']-p[\"'][^\s]",
        (b"mysql", b"mariadb"),
        readers.argument,
    ),
    Pattern(
        "curl_user",
        "curl -u user:..., --user, --proxy-user",
        rb"\bcurl\b[^|;&\r\n]*?[\s\"'](?:-[a-zA-Z]{0,8}[uU]|--user|--proxy-user)[\"']?[ =,\t]{0,4}[\"']?"
        rb"[^\s:\"'$]+:[^\s]",
        (b"curl",),
        readers.argument,
    ),
    Pattern(
        "command_password",
        "Passwords in other command lines: docker login -p, ldapsearch -w, openssl pass:, | sudo -S, chpasswd",
        rb"\b(?:docker|podman|helm|skopeo|oras)\b[^|;&\r\n]*?\blogin\b[^|;&\r\n]*?[\s\"']-p[\"']?[ =,\t]{1,4}[^\s]"
        rb"|\bldap(?:search|modify|add|delete|passwd|whoami)\b[^|;&\r\n]*?[\s\"']-w[\"']?[ =,\t]{0,4}[^\s]"
        rb"|\b-?pass(?:in|out)[ \t]{1,4}pass:[^\s]|\becho[ \t]{1,4}(?:-n[ \t]{1,4})?[^\s|]+[ \t]{0,4}\|[ \t]{0,4}"
        rb"(?:sudo[ \t]{1,4}-S|(?:sudo[ \t]{1,4})?chpasswd)",
        (b"login", b"ldap", b"pass:", b"sudo -s", b"chpasswd"),
        readers.command_password,
    ),
)  # fmt: skip

BY_NAME = {pattern.name: pattern for pattern in PATTERNS}
