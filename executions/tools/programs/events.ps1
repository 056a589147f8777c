# The newest events of the logs System and Application of a Windows machine, for journalctl, the oldest first. $given: unit
# (the source of the events; * stands for anything), lines, since, until, priority.
param([hashtable] $given, [byte[]] $content)
$most = if ($given['lines']) { [int] $given['lines'] } else { 200 }
$seconds = @{ s = 1; m = 60; h = 3600; d = 86400; w = 604800 }
# By the number that Windows gives to how grave an event is; there is nothing above 1.
$levels = @{ emerg = 1; alert = 1; crit = 1; err = 2; warning = 3; notice = 4; info = 4; debug = 5 }

function Stop-With([string] $sentence) {
    [Console]::Error.WriteLine($sentence)
    exit 1
}
function Get-Moment([string] $name) {
    $said = ([string] $given[$name]).Trim()
    if ($said -ceq 'now') { return Get-Date }
    if ($said -ceq 'today') { return (Get-Date).Date }
    if ($said -ceq 'yesterday') { return (Get-Date).Date.AddDays(-1) }
    if ($said -cmatch '^(\d{1,6}) ?(s|m|h|d|w)(?:ec|in|r|econd|inute|our|ay|eek)?s? ago$') {
        return (Get-Date).AddSeconds(-1 * [int] $Matches[1] * $seconds[$Matches[2]])
    }
    $moment = [datetime]::MinValue
    $forms = [string[]] ('yyyy-MM-dd', 'yyyy-MM-dd HH:mm', 'yyyy-MM-dd HH:mm:ss')
    $culture = [Globalization.CultureInfo]::InvariantCulture
    if ([datetime]::TryParseExact($said, $forms, $culture, [Globalization.DateTimeStyles]::None, [ref] $moment)) {
        return $moment
    }
    Stop-With "$name is no time that is known on Windows; write 1 hour ago, today, or 2026-01-31 14:00:00"
}

$filter = @{}
if ($given['unit']) { $filter['ProviderName'] = [string] $given['unit'] }
if ($given['since']) { $filter['StartTime'] = Get-Moment 'since' }
if ($given['until']) { $filter['EndTime'] = Get-Moment 'until' }
if ($given['priority']) {
    $level = $levels[[string] $given['priority']]
    # Events that are always written have the level 0; they are no graver than information.
    $filter['Level'] = if ($level -ge 4) { 0..$level } else { 1..$level }
}
$found = @()
foreach ($log in 'System', 'Application') {
    $filter['LogName'] = $log
    try {
        $found += @(Get-WinEvent -FilterHashtable $filter -MaxEvents $most -ErrorAction Stop)
    } catch {
        # A source writes to one of the two; that the other has none of it is no fault.
        if ($_.FullyQualifiedErrorId -notmatch '^NoMatching(Events|Providers)Found|^LogsAndProvidersDontOverlap') { throw }
    }
}
foreach ($entry in $found | Sort-Object -Property TimeCreated | Select-Object -Last $most) {
    $text = ([string] $entry.Message).TrimEnd() -replace '\r?\n', "`n    "
    $time = $entry.TimeCreated.ToString('yyyy-MM-ddTHH:mm:ssK', [Globalization.CultureInfo]::InvariantCulture)
    "$time $($entry.ProviderName)[$($entry.Id)] $($entry.LevelDisplayName): $text"
}
