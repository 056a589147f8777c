# Replacing a file in one move: readers see the old content or the new, never half of either. For POSIX sh with mktemp,
# stat -c and readlink -f (GNU, busybox). Usage: begin FILE; ... > "$new" || exit; commit MODE MODE_OF_A_NEW_FILE
# Mode and owner of a file that is there stay. Symbolic links are followed: the file they lead to is replaced.
set -u
export LC_ALL=C
new=
fail() { printf '%s\n' "$1" >&2; exit 1; }
trap '[ -z "$new" ] || rm -f -- "$new"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

begin() {
    file=$1
    if [ -L "$file" ]; then
        # The x keeps newlines at the end of a name, which $( ) would cut off.
        file=$(readlink -f -- "$file" && printf x) || fail "$1 is a symbolic link that leads nowhere"
        file=${file%?x}
    fi
    folder=${file%/*}
    [ ! -d "$file" ] || fail "$file is a directory"
    [ ! -e "$file" ] || [ -f "$file" ] || fail "$file is not a regular file"
    [ -d "${folder:-/}" ] || fail "there is no directory ${folder:-/}"
    new=$(mktemp "$folder/.opsconductor.XXXXXX") || exit 1
}

commit() {
    if [ -e "$file" ]; then
        owner=$(stat -c %u:%g -- "$file") && mode=$(stat -c %a -- "$file") || exit 1
        if [ "$(stat -c %u:%g -- "$new")" != "$owner" ]; then
            chown -- "$owner" "$new" || fail "$file belongs to somebody else; its owner could not be kept, so it stays as it was"
        fi
    else
        mode=$2
    fi
    chmod -- "${1:-$mode}" "$new" && mv -f -- "$new" "$file" || exit 1
    new=
}

mode_by_umask() { printf '%o' "$((0666 & ~0$(umask)))"; }
