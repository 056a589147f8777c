# One setting in a file of settings. $1 action, $2 path, $3 key, $4 section, $5 separator; the value on stdin. With the
# action check, $6 is the one whose effect is only told.
# Names and values reach awk through its environment: awk -v would interpret backslashes.
path=$2
export KEY="$3" SECTION="$4" SEPARATOR="$5" VALUE=''
[ -f "$path" ] || fail "there is no file $path"

# Reads the file, then does ACTION: get prints values, set and delete print the new file.
# Exit 0 done, 1 refused with a sentence, 10 nothing to do.
settings() {
    ACTION=$1 awk '
    function trim(text) { sub(/^[ \t]+/, "", text); sub(/[ \t\r]+$/, "", text); return text }
    function refuse(sentence) { print sentence > "/dev/stderr"; status = 1; exit 1 }
    # Where the value of a line begins; 0 when the line sets nothing. Sets name.
    function value_at(line,    at, blank) {
        if (trim(line) ~ /^[#;]/ || trim(line) == "") return 0
        if (ENVIRON["SEPARATOR"] == "space") {
            match(line, /^[ \t]*/); blank = RLENGTH
            if (!match(substr(line, blank + 1), /[ \t]+/)) return 0
            at = blank + RSTART
            name = substr(line, blank + 1, RSTART - 1)
            return at + RLENGTH
        }
        at = index(line, ENVIRON["SEPARATOR"])
        if (!at) return 0
        name = trim(substr(line, 1, at - 1))
        match(substr(line, at + 1), /^[ \t]*/)
        return at + 1 + RLENGTH
    }
    BEGIN { action = ENVIRON["ACTION"]; key = ENVIRON["KEY"]; want = ENVIRON["SECTION"]; value = ENVIRON["VALUE"] }
    {
        lines[NR] = $0
        text = trim($0)
        if (text ~ /^\[.*\]$/) {
            sections++
            section = substr(text, 2, length(text) - 2)
            if (section == want) last = NR
            next
        }
        if (want != "" && section != want) next
        if (want != "" && text != "") last = NR
        start = value_at($0)
        if (!start) next
        if (style == "" && ENVIRON["SEPARATOR"] == "=") style = ($0 ~ /[ \t]=[ \t]/) ? " = " : "="
        if (name == key) { found++; at = NR; value_start[NR] = start }
    }
    END {
        if (status) exit status
        if (action == "get") {
            if (!found) refuse(key " is not set")
            for (i = 1; i <= NR; i++) if (i in value_start) print trim(substr(lines[i], value_start[i]))
            exit 0
        }
        if (action == "delete") {
            if (!found) exit 10
            for (i = 1; i <= NR; i++) if (!(i in value_start)) print lines[i]
            exit 0
        }
        if (found > 1) refuse(key " is set " found " times; name the section, or delete it first")
        if (found) {
            if (trim(substr(lines[at], value_start[at])) == trim(value)) exit 10
            ending = (lines[at] ~ /\r$/) ? "\r" : ""
            lines[at] = substr(lines[at], 1, value_start[at] - 1) value ending
        } else if (want == "" && sections) {
            refuse(key " is not set and the file has sections; name the section that it belongs to")
        }
        if (ENVIRON["SEPARATOR"] == ":") style = ": "
        else if (ENVIRON["SEPARATOR"] == "space") style = " "
        else if (style == "") style = "="
        ending = (NR && lines[1] ~ /\r$/) ? "\r" : ""
        for (i = 1; i <= NR; i++) {
            print lines[i]
            if (!found && last && i == last) print key style value ending
        }
        if (!found && !last) {
            if (want != "" && NR && trim(lines[NR]) != "") print ending
            if (want != "") print "[" want "]" ending
            print key style value ending
        }
    }' < "$path"
}

read_value() {
    VALUE=$(cat && printf x) || exit 1
    VALUE=${VALUE%x}
}

case $1 in
get) settings get ;;
check)
    [ "$6" != set ] || read_value
    after=$(settings "$6" && printf x)
    result=$?
    case $result in
    0) printf '%s' "${after%x}" | difference "$path" || would "$6 $KEY in $path" ;;
    10) same "$KEY in $path" ;;
    *) exit "$result" ;;
    esac
    ;;
set)
    read_value
    begin "$path"
    settings set > "$new"
    result=$?
    case $result in
    0) commit '' '' && printf 'set %s in %s\n' "$KEY" "$path" ;;
    10) printf '%s in %s has that value already\n' "$KEY" "$path" ;;
    *) exit "$result" ;;
    esac
    ;;
delete)
    begin "$path"
    settings delete > "$new"
    result=$?
    case $result in
    0) commit '' '' && printf 'deleted %s from %s\n' "$KEY" "$path" ;;
    10) printf '%s is not set in %s\n' "$KEY" "$path" ;;
    *) exit "$result" ;;
    esac
    ;;
*) fail "unknown action $1" ;;
esac
