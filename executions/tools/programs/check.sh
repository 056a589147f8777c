# Saying what would change, and changing nothing. For POSIX sh.
set -u
export LC_ALL=C
fail() { printf '%s\n' "$1" >&2; exit 1; }
same() { printf '%s: nothing would change\n' "$1"; exit 0; }
would() { printf 'would %s\n' "$1"; }

# difference FILE: what would change in it if it had what is on stdin. Exit 0 when it would stay as it is, 1 when not.
difference() {
    now=$1
    [ -e "$now" ] || now=/dev/null
    [ -r "$now" ] || fail "$1 cannot be read, so what would change is not known"
    if command -v diff > /dev/null 2>&1; then
        diff -u -L "$1" -L "$1" -- "$now" -
    elif command -v cmp > /dev/null 2>&1; then
        cmp -- "$now" -
    else
        fail 'this machine has neither diff nor cmp, so what would change is not known'
    fi
    result=$?
    [ "$result" -le 1 ] || fail "$1 could not be compared"
    return "$result"
}
