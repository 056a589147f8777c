# What files.sh would do, with the same arguments: it refuses what that refuses, and changes nothing.
path=$2 other=$3 mode=$4 recursive=$5 overwrite=$6

there() { [ -e "$1" ] || [ -L "$1" ]; }
can_write_in() { [ -w "$1" ] && [ -x "$1" ]; }

# Whether a file can be put there, as begin of replace_file.sh does it.
can_replace() {
    file=$1
    if [ -L "$file" ]; then
        file=$(readlink -f -- "$file" && printf x) || fail "$1 is a symbolic link that leads nowhere"
        file=${file%?x}
    fi
    folder=${file%/*}
    [ ! -d "$file" ] || fail "$file is a directory"
    [ ! -e "$file" ] || [ -f "$file" ] || fail "$file is not a regular file"
    [ -d "${folder:-/}" ] || fail "there is no directory ${folder:-/}"
    can_write_in "${folder:-/}" || fail "the directory ${folder:-/} cannot be written"
}

# content_of FILE: says what becomes of it with what is on stdin.
content_of() {
    if [ -e "$1" ]; then verb=change; else verb=make; fi
    if difference "$1"; then
        [ -e "$1" ] || would "make $1, empty"
    else
        would "$verb $1"
    fi
}

mode_of() {
    [ -n "$2" ] && [ -e "$1" ] || return 0
    is=$(stat -L -c %a -- "$1") || exit 1
    wanted=$(printf '%o' "$((0$2))")
    [ "$is" = "$wanted" ] || would "change the mode of $1 from $is to $wanted"
}

copy_file() {
    [ -f "$1" ] || fail "$1 is not a regular file, or not there"
    [ -r "$1" ] || fail "$1 cannot be read"
    can_replace "$2"
    content_of "$2" < "$1"
    mode_of "$2" "$mode"
}

case $1 in
write) can_replace "$path"; content_of "$path"; mode_of "$path" "$mode" ;;
place)
    if [ -n "$other" ]; then
        copy_file "$other" "$path"
    else
        can_replace "$path"
        content_of "$path"
        mode_of "$path" "$mode"
    fi
    ;;
append)
    [ ! -d "$path" ] || fail "$path is a directory"
    if [ -e "$path" ]; then
        [ -w "$path" ] || fail "$path cannot be written"
        { cat -- "$path" && cat; } | content_of "$path"
    else
        can_replace "$path"
        content_of "$path"
    fi
    ;;
delete)
    there "$path" || same "$path is not there"
    if [ -d "$path" ] && [ ! -L "$path" ]; then
        [ "$recursive" = true ] || fail "$path is a directory; set recursive to delete it with all that is in it"
        [ "$(cd -P -- "$path" && pwd)" != / ] || fail "the root directory is not deleted"
        would "delete the directory $path with all that is in it:"
        find "$path"
    else
        would "delete $path"
    fi
    ;;
mkdir)
    if [ -d "$path" ]; then
        mode_of "$path" "$mode"
        same "the directory $path is there"
    fi
    ! there "$path" || fail "$path is there, and is no directory"
    would "make the directory $path"
    ;;
chmod)
    there "$path" || fail "$path does not exist"
    if [ "$recursive" = true ]; then
        would "set the mode of $path and of all that is in it to $mode"
    else
        is=$(stat -L -c %a -- "$path") || exit 1
        [ "$is" != "$(printf '%o' "$((0$mode))")" ] || same "mode of $path is $is"
        mode_of "$path" "$mode"
    fi
    ;;
copy) copy_file "$path" "$other" ;;
move)
    there "$path" || fail "$path is not there"
    [ ! -d "$other" ] || fail "$other is a directory; name the file that is to be there"
    if there "$other"; then
        [ "$overwrite" = true ] || fail "$other is there already; set overwrite to replace it"
        would "move $path to $other, and replace what is there"
    else
        would "move $path to $other"
    fi
    ;;
*) fail "unknown action $1" ;;
esac
