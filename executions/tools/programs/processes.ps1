# The processes of a Windows machine, all or those whose line holds the text $given['pattern']. Exit 1 when none does.
param([hashtable] $given, [byte[]] $content)
$pattern = [string] $given['pattern']
$found = $false
'{0,8} {1,8} {2,10} {3}' -f 'PID', 'PPID', 'MB', 'COMMAND'
$all = @(Get-CimInstance -ClassName Win32_Process | Sort-Object -Property ProcessId)
$parent = ($all | Where-Object { $_.ProcessId -eq $PID }).ParentProcessId
foreach ($process in $all) {
    # This one, and the cmd.exe that started it, would not be there without us.
    if ($process.ProcessId -eq $PID -or $process.ProcessId -eq $parent) { continue }
    $command = if ($process.CommandLine) { $process.CommandLine } else { $process.Name }
    $megabytes = [math]::Round($process.WorkingSetSize / 1048576, 1)
    $line = '{0,8} {1,8} {2,10} {3}' -f $process.ProcessId, $process.ParentProcessId, $megabytes, $command
    if ($pattern -eq '' -or $line.IndexOf($pattern, [StringComparison]::Ordinal) -ge 0) {
        $found = $true
        $line
    }
}
if (-not $found) {
    [Console]::Error.WriteLine('no process has that text in its line')
    exit 1
}
