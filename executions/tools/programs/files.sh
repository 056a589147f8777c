# Files on the target. $1 action, $2 path, $3 the other path, $4 mode, $5 recursive, $6 overwrite; content on stdin.
# Paths are absolute, so none can be taken for an option.
path=$2 other=$3 mode=$4 recursive=$5 overwrite=$6

there() { [ -e "$1" ] || [ -L "$1" ]; }

copy_file() {
    [ -f "$1" ] || fail "$1 is not a regular file, or not there"
    begin "$2"
    cat -- "$1" > "$new" || exit 1
    mode_of_source=$(stat -L -c %a -- "$1") || exit 1
    commit "$mode" "$(printf '%o' "$((0$mode_of_source & 0777))")"
    printf 'copied %s to %s\n' "$1" "$2"
}

case $1 in
read)
    [ ! -d "$path" ] || fail "$path is a directory"
    cat -- "$path"
    ;;
write)
    begin "$path"
    cat > "$new" || exit 1
    size=$(wc -c < "$new") || exit 1
    commit "$mode" "$(mode_by_umask)"
    printf 'wrote %s, %d bytes\n' "$path" "$size"
    ;;
append)
    [ ! -d "$path" ] || fail "$path is a directory"
    cat >> "$path" || exit 1
    printf 'appended to %s\n' "$path"
    ;;
delete)
    if ! there "$path"; then
        printf '%s was not there\n' "$path"
        exit 0
    fi
    if [ -d "$path" ] && [ ! -L "$path" ]; then
        [ "$recursive" = true ] || fail "$path is a directory; set recursive to delete it with all that is in it"
        [ "$(cd -P -- "$path" && pwd)" != / ] || fail "the root directory is not deleted"
        rm -rf -- "$path" || exit 1
    else
        rm -f -- "$path" || exit 1
    fi
    printf 'deleted %s\n' "$path"
    ;;
mkdir)
    mkdir -p -- "$path" || exit 1
    [ -z "$mode" ] || chmod -- "$mode" "$path" || exit 1
    printf 'directory %s is there\n' "$path"
    ;;
list) ls -la -- "$path" ;;
stat) stat -- "$path" ;;
exists)
    there "$path" || fail "$path does not exist"
    printf '%s exists\n' "$path"
    ;;
chmod)
    if [ "$recursive" = true ]; then
        chmod -R -- "$mode" "$path" || exit 1
    else
        chmod -- "$mode" "$path" || exit 1
    fi
    printf 'mode of %s is %s\n' "$path" "$mode"
    ;;
copy) copy_file "$path" "$other" ;;
place)
    # What the tool copy does: from a file of the target, or from stdin.
    if [ -n "$other" ]; then
        copy_file "$other" "$path"
    else
        begin "$path"
        cat > "$new" || exit 1
        commit "$mode" "$(mode_by_umask)"
        printf 'wrote %s\n' "$path"
    fi
    ;;
move)
    there "$path" || fail "$path is not there"
    [ ! -d "$other" ] || fail "$other is a directory; name the file that is to be there"
    [ "$overwrite" = true ] || ! there "$other" || fail "$other is there already; set overwrite to replace it"
    mv -f -- "$path" "$other" || exit 1
    printf 'moved %s to %s\n' "$path" "$other"
    ;;
*) fail "unknown action $1" ;;
esac
