# One setting in a file of settings on a Windows machine, for config_manager: what config.sh does elsewhere. $given: action,
# path, key, section, separator. $content: the value. Bytes are taken for one character each, and so stay as they are.
$bytewise = [Text.Encoding]::GetEncoding(28591)
$action = [string] $given['action']
$path = [string] $given['path']
$key = [string] $given['key']
$want = $bytewise.GetString([Text.Encoding]::UTF8.GetBytes([string] $given['section']))
$separator = if ($given['separator']) { [string] $given['separator'] } else { '=' }
$value = if ($null -eq $content) { '' } else { $bytewise.GetString($content) }
$blank = [char[]] (' ', "`t")
$ends = [char[]] (' ', "`t", "`r")

function Get-Trimmed([string] $text) {
    return $text.TrimStart($blank).TrimEnd($ends)
}
function Get-Setting([string] $line) {
    # What a line sets, and where its value begins; nothing when it sets nothing.
    $text = Get-Trimmed $line
    if ($text -eq '' -or '#;'.IndexOf($text[0]) -ge 0) { return }
    if ($separator -ceq 'space') {
        $begin = $line.Length - $line.TrimStart($blank).Length
        $end = $line.IndexOfAny($blank, $begin)
        if ($end -lt 0) { return }
        $name = $line.Substring($begin, $end - $begin)
    } else {
        $end = $line.IndexOf($separator, [StringComparison]::Ordinal)
        if ($end -lt 0) { return }
        $name = Get-Trimmed ($line.Substring(0, $end))
        $end++
    }
    $rest = $line.Substring($end)
    return @{ name = $name; start = $end + $rest.Length - $rest.TrimStart($blank).Length }
}
function Save-Lines {
    $text = if ($lines.Count) { [string]::Join("`n", $lines.ToArray()) + "`n" } else { '' }
    Write-Whole $path ($bytewise.GetBytes($mark + $text))
}

if (-not [IO.File]::Exists($path)) { Stop-With "there is no file $path" }
$bytes = [IO.File]::ReadAllBytes($path)
if ($bytes.Length -ge 2 -and $bytes[0] -ge 254 -and $bytes[1] -ge 254) {
    Stop-With "$path is in UTF-16; only files in UTF-8, or in an alphabet of single bytes, are changed"
}
$whole = $bytewise.GetString($bytes)
$mark = $bytewise.GetString([byte[]] (239, 187, 191))
if (-not $whole.StartsWith($mark, [StringComparison]::Ordinal)) { $mark = '' }
$lines = New-Object 'Collections.Generic.List[string]'
$lines.AddRange([string[]] $whole.Substring($mark.Length).Split([char] 10))
if ($lines[$lines.Count - 1] -eq '') { $lines.RemoveAt($lines.Count - 1) }

$starts = @{}
$sections = 0
$section = ''
$last = -1
$style = ''
for ($at = 0; $at -lt $lines.Count; $at++) {
    $text = Get-Trimmed $lines[$at]
    if ($text.Length -ge 2 -and $text[0] -eq [char] '[' -and $text[$text.Length - 1] -eq [char] ']') {
        $sections++
        $section = $text.Substring(1, $text.Length - 2)
        if ($section -ceq $want) { $last = $at }
        continue
    }
    if ($want -ne '' -and $section -cne $want) { continue }
    if ($want -ne '' -and $text -ne '') { $last = $at }
    $setting = Get-Setting $lines[$at]
    if ($null -eq $setting) { continue }
    if ($style -eq '' -and $separator -ceq '=') {
        $style = if ($lines[$at] -match '[ \t]=[ \t]') { ' = ' } else { '=' }
    }
    if ($setting['name'] -ceq $key) { $starts[$at] = $setting['start'] }
}
$found = @($starts.Keys | Sort-Object)

switch -CaseSensitive ($action) {
    'get' {
        if (-not $found.Count) { Stop-With "$key is not set" }
        foreach ($at in $found) {
            $bare = Get-Trimmed ($lines[$at].Substring($starts[$at]))
            [Text.Encoding]::UTF8.GetString($bytewise.GetBytes($bare))
        }
    }
    'delete' {
        if (-not $found.Count) {
            "$key is not set in $path"
        } else {
            [array]::Reverse($found)
            foreach ($at in $found) { $lines.RemoveAt($at) }
            Save-Lines
            "deleted $key from $path"
        }
    }
    'set' {
        if ($found.Count -gt 1) { Stop-With "$key is set $($found.Count) times; name the section, or delete it first" }
        if ($found.Count) {
            $line = $lines[$found[0]]
            $start = $starts[$found[0]]
            if ((Get-Trimmed ($line.Substring($start))) -ceq (Get-Trimmed $value)) {
                "$key in $path has that value already"
                exit 0
            }
            $ending = if ($line.EndsWith("`r", [StringComparison]::Ordinal)) { "`r" } else { '' }
            $lines[$found[0]] = $line.Substring(0, $start) + $value + $ending
        } else {
            if ($want -eq '' -and $sections) {
                Stop-With "$key is not set and the file has sections; name the section that it belongs to"
            }
            if ($separator -ceq ':') { $style = ': ' }
            elseif ($separator -ceq 'space') { $style = ' ' }
            elseif ($style -eq '') { $style = '=' }
            $isReturned = $lines.Count -and $lines[0].EndsWith("`r", [StringComparison]::Ordinal)
            $ending = if ($isReturned) { "`r" } else { '' }
            $new = $key + $style + $value + $ending
            if ($last -ge 0) {
                $lines.Insert($last + 1, $new)
            } else {
                if ($want -ne '') {
                    if ($lines.Count -and (Get-Trimmed $lines[$lines.Count - 1]) -ne '') { $lines.Add($ending) }
                    $lines.Add('[' + $want + ']' + $ending)
                }
                $lines.Add($new)
            }
        }
        Save-Lines
        "set $key in $path"
    }
    default { Stop-With "unknown action $action" }
}
