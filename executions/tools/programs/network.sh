# What this machine sees of the network. $1 action, $2 target, $3 port, $4 count, $5 seconds.
# Exit 0 yes, 1 no, 127 no program for it here. The target was checked to begin with a letter, a digit, _ or :.
set -u
export LC_ALL=C
target=$2 port=$3 count=$4 seconds=$5
have() { command -v "$1" > /dev/null 2>&1; }
missing() { printf 'this machine has none of: %s\n' "$1" >&2; exit 127; }
# busybox knows timeout too; without it the caller's own time limit ends the attempt.
limited() { if have timeout; then timeout "$seconds" "$@"; else "$@"; fi; }

connect_with_nc() {
    answer=$(limited nc -z -w "$seconds" "$target" "$port" < /dev/null 2>&1)
    result=$?
    case $result:$answer in
    0:*) ;;
    # busybox's nc has no -z, but starts a program once it is connected.
    *option* | *[Uu]sage*) limited nc -w "$seconds" "$target" "$port" -e true 2>&1 ;;
    *) printf '%s\n' "$answer"; return "$result" ;;
    esac
}

connect() {
    if have bash; then
        limited bash -c 'exec 3<> "/dev/tcp/$1/$2"' connect "$target" "$port" 2>&1
    elif have python3; then
        python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))' \
            "$target" "$port" "$seconds" 2>&1
    elif have nc; then
        connect_with_nc
    else
        missing 'bash, python3, nc'
    fi
}

resolve() {
    if have getent; then
        { getent ahosts "$target" || getent hosts "$target"; } 2> /dev/null
    elif have nslookup; then
        nslookup "$target" 2>&1
    else
        missing 'getent, nslookup'
    fi
}

case $1 in
ping)
    have ping || missing ping
    ping -c "$count" -W "$seconds" "$target"
    ;;
dns)
    answer=$(resolve)
    result=$?
    [ "$result" -ne 127 ] || exit 127
    if [ "$result" -ne 0 ] || [ -z "$answer" ]; then
        printf '%s does not resolve\n%s\n' "$target" "$answer" >&2
        exit 1
    fi
    # One line an address: getent names each of them once for every kind of socket.
    printf '%s\n' "$answer" | awk '!seen[$1]++ { if (NF > 2 && $2 ~ /^(STREAM|DGRAM|RAW)$/) print $1; else print }'
    ;;
tcp)
    said=$(connect)
    result=$?
    case $result in
    0) printf 'port %s of %s is open\n' "$port" "$target" ;;
    127) printf '%s\n' "$said" >&2; exit 127 ;;
    124 | 143) printf 'port %s of %s: no answer within %s s\n' "$port" "$target" "$seconds" >&2; exit 1 ;;
    *) printf 'port %s of %s is not open\n%s\n' "$port" "$target" "$said" >&2; exit 1 ;;
    esac
    ;;
traceroute)
    if have traceroute; then
        traceroute -n -w "$seconds" "$target"
    elif have tracepath; then
        tracepath -n "$target"
    else
        missing 'traceroute, tracepath'
    fi
    ;;
*) printf 'unknown action %s\n' "$1" >&2; exit 2 ;;
esac
