"""Lines with secrets in them, as real programs print them: what has to go, and what has to stay readable.

Every secret here is made up, or one of the examples that vendors print in their manuals.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """`kind` is the pattern that is there for it; `line` holds `secret`, and `kept` is what a reader still needs."""

    kind: str
    line: str
    secret: str
    kept: str = ""


BASIC = base64.b64encode(b"bob:hunter2").decode()
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"

_PASSWORDS = """\
password=~hunter2~
PASSWORD='~hunter two~'
DB_PASSWORD=~hunter2~ ./manage.py migrate
export PGPASSWORD=~hunter2~
  password: ~hunter2~
  "password": "~hunter2~",
{"user": "bob", "password": "~a \\"quoted\\" one~", "port": 5432}
"{\\"password\\": \\"~hunter2~\\"}"
db.password=~hunter2~
spring.datasource.password=~hunter2~
dbPassword: ~hunter2~
  admin_passwd = ~hunter2~
$config['password'] = '~hunter2~';
password => ~hunter2~
<password>~hunter2~</password>
  passphrase: "~correct horse battery~"
Server=db;Database=x;User Id=sa;Password=~hunter2~;Encrypt=true
host=db user=bob password=~hunter2~ dbname=orders
GET /login?user=bob&password=~hunter2~&next=/ HTTP/1.1
CREATE ROLE bob LOGIN PASSWORD '~hunter2~';
ALTER USER 'bob'@'%' IDENTIFIED BY '~hunter2~';
mysqladmin --password=~hunter2~ ping
psql --password ~hunter2~ -h db
java -jar app.jar --db-password ~hunter2~ --port 80
["app", "--password", "~hunter2~"]
requirepass ~hunter2~
masterauth ~hunter2~
machine api.example.com login bob password ~hunter2~
The new password is ~hunter2~
net.ipmi pwd=~hunter2~
redis_pass: "~hunter2~"
SMTP_PASS=~hunter2~
Kennwort/passwort: ~hunter2~
password: ~hunter2~ (generated)
password:~12345678~
  "passcode": ~123456~,
INFO connecting with {host=db, password=~hunter2~}
<pre>{&#x27;password&#x27;: &#x27;~hunter2~&#x27;}</pre>
time=12:00 msg="login" password=~hunter2~ user=bob
"""
_TOKENS = """\
token=~abc123~
client_secret: ~s3cr3t-value-9~
"access_token":"~2YotnFZFEjr1zCsicMWpAA~","token_type":"Bearer"
REFRESH_TOKEN=~tGzv3JOkF0XG5Qx2TlKWIA~
secret_key = "~django-insecure-abc~"
SECRET_KEY='~p9#kd(2_x~'
--token ~abcdef123456~ --server https://10.0.0.1:6443
kubeadm join 10.0.0.1:6443 --token ~abcdef.0123456789abcdef~
"sessionid": "~q1w2e3r4t5y6u7i8~"
session_id=~q1w2e3r4t5y6u7i8~
GET /callback?token=~abc123~&state=x HTTP/1.1
AccountName=store;AccountKey=~Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYg==~;EndpointSuffix=core.windows.net
encryption_key: ~0f1e2d3c4b5a69788796a5b4c3d2e1f0~
  credential: "~hunter2~"
secret: ~3f2504e0-4f89-11d3-9a0c-0305e82c3301~
"""
_API_KEYS = """\
api_key=~abcd1234efgh~
X-API-Key: ~abcd1234efgh~
"apiKey": "~abcd1234efgh~"
  apikey: ~abcd1234efgh~
GET /v1/data?api_key=~abcd1234efgh~&q=1 HTTP/1.1
Ocp-Apim-Subscription-Key: ~abcd1234efgh~
"""
_HEADERS = f"""\
Authorization: Bearer ~abc.def-123_456~
authorization: bearer ~abcdef123456~
> Authorization: Basic ~{BASIC}~
curl -H 'Authorization: Bearer ~abc.def-123~' https://api.example.com/
curl -H "Authorization: Token ~0123456789abcdef~" -X POST https://api.example.com/
{{"headers": {{"Authorization": "Bearer ~abcdef123456~", "Accept": "*/*"}}}}
Proxy-Authorization: Basic ~{BASIC}~
Authorization: ~0123456789abcdef~
Authorization: Digest ~username="bob", realm="x", nonce="y", response="0123456789abcdef"~
Cookie: ~sessionid=abc123; csrftoken=def456~
Set-Cookie: sessionid=~abc123def~; Path=/; HttpOnly
X-Vault-Token: ~s.abcdefgh1234~
X-Auth-Token: ~abcdefgh1234~
PRIVATE-TOKEN: ~abcdefgh1234~
sent Bearer ~0123456789abcdef0123~ to upstream
got Basic ~{BASIC}~ from 10.0.0.1
"""
_URLS = """\
postgresql://app:~s3cr3t~@db.example.com:5432/orders
redis://:~pw~@cache:6379/0
amqp://guest:~gu%40est~@mq:5672/%2F
mongodb+srv://bob:~hunter2~@cluster0.example.net/test?retryWrites=true
https://bob:~hunter2~@git.example.com/org/repo.git
https://~0123456789abcdefabcd~@github.com/org/repo.git
DATABASE_URL=mysql://root:~p@ss~@127.0.0.1/app
smtp://mailer:~hunter2~@smtp.example.com:587
could not connect to "ftp://bob:~hunter2~@ftp.example.com/x": timeout
jdbc:oracle:thin:scott/~tiger9~@//db:1521/ORCL
see http://proxy:8080/ then http://bob:~hunter2~@proxy:8080/
"""
_COMMANDS = """\
sshpass -p ~hunter2~ ssh bob@web01
sshpass -p'~hunter two~' scp a bob@web01:/tmp
+ sshpass -v -p ~hunter2~ ssh bob@web01
["sshpass", "-p", "~hunter2~", "ssh", "web01"]
mysql -u root -p~hunter2~ orders
mysqldump --single-transaction -uroot -p"~hunter2~" orders > dump.sql
mariadb -h db -p~hunter2~ -e 'select 1'
curl -u bob:~hunter2~ https://api.example.com/
curl -sS --user bob:~hunter2~ https://api.example.com/
curl -X POST -u "bob:~hunter two~" https://api.example.com/
curl --proxy-user bob:~hunter2~ https://api.example.com/
docker login -u bob -p ~hunter2~ registry.example.com
ldapsearch -x -D cn=admin -w ~hunter2~ -b dc=example
openssl rsa -in key.pem -passin pass:~hunter2~
echo ~hunter2~ | sudo -S apt-get update
echo "bob:~hunter2~" | chpasswd
"""
_OTHERS = f"""\
aws_access_key_id|AWS_ACCESS_KEY_ID=~AKIAIOSFODNN7EXAMPLE~
aws_access_key_id|credentials ~ASIAIOSFODNN7EXAMPLE~ are temporary
aws_secret_key|aws_secret_access_key = ~{AWS_SECRET}~
aws_secret_key|the pair is AKIA... and ~{AWS_SECRET}~
aws_secret_key|"SecretAccessKey": "~{AWS_SECRET}~"
ssh_public_key|ssh-ed25519 ~{BLOB}~ bob@laptop
ssh_public_key|ecdsa-sha2-nistp256 ~{BLOB}~
email|Mail sent to ~bob.smith@example.com~ (queued)
email|From: Bob <~bob@mail.example.co.uk~>
email|"email":"~bob+test@example.org~"
card_number|charged ~4111111111111111~ ok
card_number|charged ~4111 1111 1111 1111~ ok
card_number|card=~5555-5555-5555-4444~
card_number|amex ~378282246310005~
us_ssn|ssn ~123-45-6789~ given
jwt|verifying ~{JWT}~ failed
github_token|remote: ~ghp_0123456789abcdefghijABCDEFGHIJ012345~
github_token|~github_pat_11ABCDEFG0abcdefghijkl_0123456789~
gitlab_token|~glpat-abcdefghij0123456789~
slack_token|~xoxb-123456789012-abcdefghijkl~
slack_token|POST https://hooks.slack.com/services/~T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX~
google_key|key ~AIzaSyA0123456789abcdefghijklmnopqrstuv~
google_key|~ya29.a0AfH6SMBx-0123456789abcdef~
stripe_key|using ~sk_live_0123456789abcdef~
stripe_key|~whsec_0123456789abcdefghij~
vendor_token|npm: ~npm_0123456789abcdefghijABCDEFGHIJ012345~
vendor_token|vault: ~hvs.CAESIJ0123456789abcdefghij~
vendor_token|ours: ~oc_3q2Zk81mJx0vBn5TtYw7~
vendor_token|~SG.abcdefghij0123456789.ABCDEFGHIJ0123456789~
"""
_BY_KIND = {
    "password": _PASSWORDS,
    "generic_secret": _TOKENS,
    "api_key": _API_KEYS,
    "header_token": _HEADERS,
    "url_password": _URLS,
    "command_password": _COMMANDS,
}


def _read(kind: str, marked: str) -> Hit:
    before, secret, after = marked.split("~")
    return Hit(kind, before + secret + after, secret, kept=f"{before}[masked]{after}")


HITS = [_read(kind, line) for kind, lines in _BY_KIND.items() for line in lines.splitlines()]
HITS += [_read(*line.split("|", 1)) for line in _OTHERS.splitlines()]
HITS.append(Hit("ip_address", "from 10.1.2.3 port 22", "10.1.2.3", "from [masked] port 22"))
HITS.append(Hit("ip_address", "inet6 fe80::1:2 up", "fe80::1:2", "inet6 [masked] up"))
