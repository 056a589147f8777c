# ruff: noqa: E501 - lines are as their programs print them
"""Ordinary output without a secret in it: what the programs of a Linux host, a cluster and a build print all day.

The lines are made by a program, always the same ones. Each template is a line as its program prints it; what varies in it
is drawn anew for each line.
"""

from __future__ import annotations

import base64
import random
import re
import uuid
from collections.abc import Callable, Iterator

TEMPLATES = """\
Nov {day} {time} {host} sshd[{pid}]: Accepted publickey for {user} from {ip} port {port} ssh2: ED25519 SHA256:{b64_43}
Nov {day} {time} {host} sshd[{pid}]: Failed password for invalid user {user} from {ip} port {port} ssh2
Nov {day} {time} {host} sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid={num}) by (uid=0)
Nov {day} {time} {host} sshd[{pid}]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={ip}
Nov {day} {time} {host} sshd[{pid}]: Disconnected from authenticating user root {ip} port {port} [preauth]
Nov {day} {time} {host} sudo[{pid}]: {user} : TTY=pts/{small} ; PWD=/home/{user} ; USER=root ; COMMAND=/usr/bin/systemctl restart {service}
Nov {day} {time} {host} sudo: pam_unix(sudo:session): session closed for user root
Nov {day} {time} {host} systemd[1]: Started Session {num} of user {user}.
Nov {day} {time} {host} systemd[1]: {service}.service: Main process exited, code=exited, status={small}/FAILURE
Nov {day} {time} {host} systemd[1]: user@{uid}.service: Consumed {small}.{num}s CPU time.
Nov {day} {time} {host} systemd-logind[{pid}]: New session {num} of user {user}.
Nov {day} {time} {host} systemd[1]: Listening on getty@tty{small}.service - Getty on tty{small}.
Nov {day} {time} {host} kernel: [{num}.{num}] audit: type=1400 audit({epoch}.{ms}:{num}): apparmor="DENIED" operation="open" profile="snap.{service}" name="/proc/{pid}/cmdline" pid={pid} comm="{service}"
Nov {day} {time} {host} kernel: [UFW BLOCK] IN=eth0 OUT= MAC={mac} SRC={ip} DST={ip} LEN=40 TTL=245 ID={port} PROTO=TCP SPT={port} DPT={port} WINDOW=1024 SYN
Nov {day} {time} {host} CRON[{pid}]: (root) CMD (   cd / && run-parts --report /etc/cron.hourly)
Nov {day} {time} {host} dovecot: imap-login: Login: user=<{user}>, method=PLAIN, rip={ip}, lip={ip}, mpid={pid}, TLS, session=<{b64_16}>
Nov {day} {time} {host} postfix/smtpd[{pid}]: connect from unknown[{ip}]
Nov {day} {time} {host} postfix/cleanup[{pid}]: {HEX10}: message-id=<{date}{num}.{HEX10}@{host}.internal>
{ip} - - [{day}/Nov/2026:{time} +0000] "GET /{path}?page={small}&sort=name HTTP/1.1" 200 {num} "-" "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
{ip} - {user} [{day}/Nov/2026:{time} +0000] "POST /api/v1/{path}/ HTTP/2.0" 201 {num} "https://{host}.example.com/{path}" "curl/8.5.0"
{ip} - - [{day}/Nov/2026:{time} +0000] "GET /static/js/app.{hex8}.js HTTP/1.1" 304 0 "https://{host}.example.com/" "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)"
2026/11/{day} {time} [error] {pid}#{pid}: *{num} connect() failed (111: Connection refused) while connecting to upstream, client: {ip}, server: {host}.example.com, request: "GET /{path} HTTP/1.1", upstream: "http://127.0.0.1:{port}/{path}", host: "{host}.example.com"
{iso} INFO  [http-nio-{port}-exec-{small}] c.e.{word}.{Word}Service - {Word} {num} placed in {num} ms
{iso} WARN  [main] o.s.b.f.s.DefaultListableBeanFactory - Overriding bean definition for bean '{word}Service' with a different definition
{iso} ERROR [pool-{small}-thread-{small}] c.e.{word}.AuthFilter - Token expired at {iso}, rejecting request {uuid}
{iso} DEBUG c.e.{word}.security.TokenStore : token cache: {num} entries, {small} evicted
{iso} INFO  o.a.k.c.c.internals.ConsumerCoordinator - [Consumer clientId=consumer-{word}-{small}, groupId={word}] Setting offset for partition {word}-{small} to the committed offset FetchPosition{{offset={num}}}
java.sql.SQLException: Access denied for user '{user}'@'{ip}' (using password: YES)
java.lang.IllegalStateException: Failed to load ApplicationContext for [WebMergedContextConfiguration@{hex8} testClass = com.example.{word}.{Word}Test]
	at com.example.{word}.{Word}Controller.handle({Word}Controller.java:{num})
	at org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:{num}) ~[spring-webmvc-6.1.{small}.jar!/:6.1.{small}]
	at java.base/java.util.concurrent.ThreadPoolExecutor$Worker.run(ThreadPoolExecutor.java:{num})
	... {small} common frames omitted
Caused by: java.net.ConnectException: Connection refused (Connection refused)
I11{day} {time}.{num} {pid} controller.go:{num}] "Reconciling" controller="{word}" namespace="{word}" name="{word}-{hex8}" reconcileID="{uuid}"
E11{day} {time}.{num} {pid} reflector.go:{num}] k8s.io/client-go/informers/factory.go:{num}: Failed to watch *v1.Secret: unknown (get secrets)
W11{day} {time}.{num} {pid} warnings.go:70] policy/v1beta1 PodSecurityPolicy is deprecated in v1.21+, unavailable in v1.25+
{word}-{hex8}-{rand5}   {small}/{small}     Running             {small} ({small}h ago)   {small}d
secret/{word}-tls created
secret "{word}-credentials" deleted
serviceaccount/{word} created
NAME                  TYPE                                  DATA   AGE
{word}-token-{rand5}     kubernetes.io/service-account-token   3      {small}d
{word}-tls            kubernetes.io/tls                     2      {small}d
    secretName: {word}-tls
      secretKeyRef:
        name: {word}-credentials
        key: password
  imagePullSecrets:
  - name: registry-{word}
  Normal   Pulled     {small}m   kubelet            Successfully pulled image "registry.example.com/{word}/{word}@sha256:{hex64}" in {small}.{num}s
  Warning  FailedMount  {small}s (x{small} over {small}m)  kubelet  MountVolume.SetUp failed for volume "{word}" : secret "{word}-tls" not found
Successfully built {hex12}
 ---> Using cache {hex12}
#{small} sha256:{hex64} {small}.{num}MB / {small}.{num}MB {small}.{small}s
Digest: sha256:{hex64}
commit {hex40}
{hex8} Fix the {word} of {word}
Author: {Word} {Word} <{user}@{host}.local>
index {hex8}..{hex8} 100644
diff --git a/{word}/{word}.py b/{word}/{word}.py
 * [new branch]      feature/{word}-{num} -> origin/feature/{word}-{num}
From git@github.com:{word}/{word}
Cloning into '{word}'... done from git@gitlab.example.com:{word}/{word}.git
remote: Enumerating objects: {num}, done.
{user}@{host}:~$ ls -la /{path}
[{user}@{host} {word}]$ kubectl get pods -n {word}
{user}@{host}.example.com:/srv/{word}$ make deploy
root@{host}.example.com:~# systemctl status {service}
drwxr-xr-x  {small} {user} {user}     4096 Nov {day} {clock} {word}
-rw-r--r--  1 root root {num} Nov {day}  2026 /etc/{word}/{word}.conf
lrwxrwxrwx  1 root root       {small} Nov {day} {clock} current -> releases/{date}{num}
-rw-------  1 root root     {num} Nov {day} {clock} /etc/ssl/private/{host}.key
-rw-r-----  1 root shadow   {num} Nov {day} {clock} /etc/shadow
{user}  {pid}  0.{small}  {small}.{small} {num} {num} ?        Ssl  Nov{day}   0:{small} /usr/bin/{service} --config /etc/{service}/{service}.yml --log.level=info
root     {pid}  0.0  0.1 {num} {num} ?        Ss   {clock}   0:00 sshd: {user} [priv]
mysql    {pid}  1.{small} {small}.{small} {num} {num} ?       Ssl  Nov{day} {num}:{small} /usr/sbin/mysqld --pid-file=/run/mysqld/mysqld.pid --socket=/run/mysqld/mysqld.sock
/dev/nvme0n1p{small}  {num}G  {small}G  {num}G  {small}% /
tmpfs           {num}M     0  {num}M   0% /run/user/{uid}
eth0: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500
        inet {ip}  netmask 255.255.255.0  broadcast {ip}
        ether {mac}  txqueuelen 1000  (Ethernet)
        inet6 fe80::{hex4}:{hex4}:{hex4}:{hex4}  prefixlen 64  scopeid 0x20<link>
tcp   LISTEN 0      511          0.0.0.0:{port}       0.0.0.0:*    users:(("{service}",pid={pid},fd={small}))
ii  {word}-{word}        1:{small}.{small}.{small}-{small}ubuntu{small}       amd64        {Word} {word} library
{word}-{word}/noble-updates,now {small}.{small}.{small}+dfsg-{small} amd64 [installed,automatic]
Get:{small} http://archive.ubuntu.com/ubuntu noble-updates/main amd64 {word} amd64 {small}.{small}.{small} [{num} kB]
Requirement already satisfied: {word}>={small}.{small} in /usr/lib/python3/dist-packages (from {word}) ({small}.{small}.{small})
Collecting {word}=={small}.{small}.{small} (from -r requirements.txt (line {small}))
added {num} packages, and audited {num} packages in {small}s
npm WARN deprecated {word}@{small}.{small}.{small}: this package is no longer supported
+-- @{word}/{word}@{small}.{small}.{small}
{word}@{small}.{small}.{small} /srv/{word}/node_modules/{word}
    "integrity": "sha512-{b64_86}==",
    "resolved": "https://registry.npmjs.org/{word}/-/{word}-{small}.{small}.{small}.tgz",
    {word} v{small}.{small}.{small} (registry+https://github.com/rust-lang/crates.io-index)
checksum = "{hex64}"
go: downloading github.com/{word}/{word} v{small}.{small}.{small}
github.com/{word}/{word} v{small}.{small}.{small} h1:{b64_43}=
PASS: tests/{word}_test.sh
--- PASS: Test{Word} (0.{small}s)
ok      github.com/{word}/{word}  {small}.{num}s
tests/{word}/test_{word}.py::test_{word}_is_{word} PASSED                  [ {small}%]
=================== {num} passed, {small} skipped in {small}.{num}s ===================
PLAY RECAP *********************************************************************
{host}                      : ok={small}    changed={small}    unreachable=0    failed=0    skipped={small}    rescued=0    ignored=0
TASK [{word} : Ensure the password policy is set] ******************************
ok: [{host}] => (item={word})
changed: [{host}] => {{"changed": true, "checksum": "{hex40}", "dest": "/etc/{word}.conf", "gid": 0, "group": "root", "md5sum": "{hex32}", "mode": "0644", "owner": "root", "size": {num}, "state": "file", "uid": 0}}
server:
  port: {port}
  host: {host}.example.internal
  max_tokens: {num}
  token_lifetime: {small}h
  session_timeout: {num}
  password_min_length: 12
  auth: enabled
  password: ${{DB_PASSWORD}}
  api_key: {{{{ vault_api_key }}}}
password_file: /run/secrets/{word}
  key: {word}.{word}
  sessions: {num}
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/srv/{word}/releases/{date}{num}
OLDPWD=/home/{user}
{{"level":"info","ts":"{iso}","caller":"{word}/{word}.go:{num}","msg":"{word} started","trace_id":"{hex32}","span_id":"{hex16}","duration_ms":{num}}}
{{"time":{epoch}{ms},"level":"warn","request_id":"{uuid}","user_id":{num},"status":4{small},"path":"/{path}","token_type":"Bearer","expires_in":3600}}
{{"@timestamp":"{iso}","log.level":"INFO","message":"login ok","ecs.version":"8.{small}","event.id":"{uuid}","source.ip":"{ip}"}}
{epoch}{ms} {num} {ip} TCP_MISS/200 {num} GET http://{host}.example.com/{path} - HIER_DIRECT/{ip} text/html
{epoch}.{ms}{ms} [{small} {ip}:{port}] "GET" "/{path}" "HTTP/1.1" {num}
time="{iso}" level=info msg="{word} {word}" component={word} id={hex64}
level=error ts={iso} caller={word}.go:{num} component={word} err="context deadline exceeded" rev={hex40}
{iso} [{pid}] LOG:  duration: {num}.{ms} ms  statement: SELECT id, name FROM {word}_{word} WHERE id = {num}
{iso} [{pid}] LOG:  checkpoint complete: wrote {num} buffers ({small}.{small}%); 0 WAL file(s) added, 0 removed, {small} recycled; write={small}.{ms} s, sync=0.{ms} s
{iso} [{pid}] FATAL:  password authentication failed for user "{user}"
{iso} [{pid}] DETAIL:  Connection matched file "/etc/postgresql/18/main/pg_hba.conf" line {small}: "host all all {ip}/32 scram-sha-256"
 id  |  name  | created_at | total
 {num} | {word} | 2026-11-{day} {time} | {num}.{small}
ERROR 1045 (28000): Access denied for user '{user}'@'localhost' (using password: NO)
mysql> SELECT COUNT(*) FROM {word}_{word};
Enter password:
[sudo] password for {user}:
Password for {user}@{host}:
Error: invalid token: expected ')' at line {small}
SyntaxError: Unexpected token: '{word}' in JSON at position {num}
error: secret: not found
Bearer token authentication is enabled
Basic authentication is deprecated, see https://{host}.example.com/docs/{path}
The key fingerprint is: SHA256:{b64_43} {user}@{host}
256 SHA256:{b64_43} {user}@{host} (ED25519)
debug1: kex: algorithm: curve25519-sha256@libssh.org
debug1: kex: server->client cipher: chacha20-poly1305@openssh.com MAC: <implicit> compression: none
     Subject: CN={host}.example.com, O=Example, C=DE
    X509v3 Subject Key Identifier: {HEXPAIRS}
-----BEGIN CERTIFICATE-----
{b64_64}
-----END CERTIFICATE-----
<img src="data:image/png;base64,{b64_200}">
{b64_76}
{hex64}  {word}-{small}.{small}.{small}.tar.gz
{hex32}  ./{word}/{word}.bin
{uuid}
UUID={uuid} / ext4 defaults 0 1
Filesystem UUID:          {uuid}
partition table: {num} {num} {num} {num}
{num} {num} {num} {num} {num} {num} {num}
  {small}.{num}  {small}.{num}  {small}.{num}  {num}
PING {host}.example.com ({ip}) 56(84) bytes of data.
64 bytes from {ip}: icmp_seq={small} ttl=64 time=0.{ms} ms
HTTP/1.1 200 OK
Content-Type: application/json; charset=utf-8
ETag: "{hex32}"
X-Request-ID: {uuid}
X-Amz-Request-Id: {HEX16}
Last-Modified: Wed, {day} Nov 2026 {time} GMT
Set the password with `passwd {user}`, then log in.
passwd: password updated successfully
usage: {word} [--password PASSWORD] [--token TOKEN] [--host HOST] {word}
      --password string   Password to use when connecting to server
      --token-file=<path>  read the token from a file
Changing password for user {user}.
chpasswd: (user {user}) pam_chauthtok() failed, error:
Copying /srv/{word}/{Word}{num}/{word}-{hex8}.dat to s3://{word}-backup/{date}/{word}
arn:aws:iam::{acct}:role/{word}-{word}
i-0{hex16}  running  t3.medium  eu-central-1a  {ip}
vol-0{hex16} {num}GiB gp3 in-use
Apply complete! Resources: {small} added, {small} changed, 0 destroyed.
aws_instance.{word}[{small}]: Creation complete after {small}s [id=i-0{hex16}]
  + arn                  = (known after apply)
  ~ password             = (sensitive value)
Downloading {word}... {small}% ({num}/{num})
\x1b[32mok\x1b[0m {word} \x1b[2m{num} ms\x1b[0m
Transaction {num}{num} booked on account DE{num}{num}{num} by {word}
order {epoch}{ms}{ms} shipped, tracking {num}{num}, invoice {date}-{num}
Ünïcødé {word}: größe {num} µs – naïve café ✓
org.freedesktop.NetworkManager /org/freedesktop/NetworkManager/Devices/{small}
phone +49 30 {num} {num}, ext. {small}
"""

WORDS = (
    "order", "invoice", "billing", "catalog", "search", "gateway", "worker", "ledger", "mailer", "report",
    "session", "token", "secret", "password", "auth", "key", "basic", "bearer", "cookie", "nginx",
    "redis", "backup", "archive", "payment", "profile", "metrics", "tracing", "storage", "cluster",
)  # fmt: skip
HOSTS = ("web01", "db-02", "ip-10-0-3-17", "cache3", "build-7", "edge.fra1")
USERS = ("deploy", "bob", "alice", "www-data", "postgres", "ci-runner", "root")
SERVICES = ("nginx", "postgresql", "redis-server", "prometheus", "node_exporter", "docker", "mysqld")
HEX = "0123456789abcdef"
RANDOM_NAME = "bcdfghjklmnpqrstvwxz2456789"


def ordinary_lines(count: int, seed: int = 20261125) -> Iterator[str]:
    """Yield `count` lines, the same for the same seed."""
    chance = random.Random(seed)
    templates = TEMPLATES.splitlines()
    make = _makers(chance)
    for _ in range(count):
        yield _filled(chance.choice(templates), make)


def _filled(template: str, make: dict[str, Callable[[], str]]) -> str:
    escaped = re.sub(r"(?<!\})\}\}\}(?!\})", "}\x03", template)
    parts = escaped.replace("{{", "\x02").replace("}}", "\x03").split("{")
    line = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        line += (make[name](), rest)
    return "".join(line).replace("\x02", "{").replace("\x03", "}")


def _makers(chance: random.Random) -> dict[str, Callable[[], str]]:
    def digits(low: int, high: int) -> Callable[[], str]:
        return lambda: str(chance.randint(low, high))

    def drawn(letters: str, length: int) -> Callable[[], str]:
        return lambda: "".join(chance.choices(letters, k=length))

    def b64(length: int) -> Callable[[], str]:
        return lambda: base64.b64encode(chance.randbytes(length))[:length].decode()

    def time() -> str:
        return f"{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}"

    return {
        "day": lambda: f"{chance.randint(10, 28)}",
        "time": time,
        "clock": lambda: time()[:5],
        "iso": lambda: f"2026-11-{chance.randint(10, 28)}T{time()}.{chance.randrange(1000):03}Z",
        "date": lambda: f"202611{chance.randint(10, 28)}",
        "epoch": digits(1_700_000_000, 1_900_000_000),
        "ms": lambda: f"{chance.randrange(1000):03}",
        "host": lambda: chance.choice(HOSTS),
        "user": lambda: chance.choice(USERS),
        "service": lambda: chance.choice(SERVICES),
        "word": lambda: chance.choice(WORDS),
        "Word": lambda: chance.choice(WORDS).title(),
        "path": lambda: "/".join(chance.choices(WORDS, k=chance.randint(1, 4))),
        "pid": digits(300, 4_194_304),
        "uid": digits(1000, 1020),
        "num": lambda: str(chance.randint(1, 10 ** chance.randint(1, 8))),
        "small": digits(1, 99),
        "port": digits(1024, 65535),
        "acct": lambda: f"{chance.randrange(10**12):012}",
        "ip": lambda: f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}",
        "mac": lambda: ":".join(f"{chance.randrange(256):02x}" for _ in range(6)),
        "uuid": lambda: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "rand5": drawn(RANDOM_NAME, 5),
        **{f"hex{length}": drawn(HEX, length) for length in (4, 8, 12, 16, 32, 40, 64)},
        **{f"HEX{length}": drawn(HEX.upper(), length) for length in (10, 16)},
        "HEXPAIRS": lambda: ":".join(f"{chance.randrange(256):02X}" for _ in range(20)),
        **{f"b64_{length}": b64(length) for length in (16, 43, 64, 76, 86, 200)},
    }
