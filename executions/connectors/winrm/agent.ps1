# Runs one program or one script, as the worker's orders say. Windows PowerShell 5.1.
# The orders came over standard input, a line each: a word, then values in base64 with spaces between. Nothing of them
# is on a command line, where every user of the machine could read it, and nothing of them is parsed as a command
# unless it is the script itself.
param([object[]] $Lines)

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$utf8 = New-Object System.Text.UTF8Encoding $false
# Without a preamble: the program's standard input would begin with one.
try { [Console]::InputEncoding = $utf8; [Console]::OutputEncoding = $utf8 } catch { }
$OutputEncoding = $utf8
# Tables are cut at the width of the window that nobody looks at.
try { $Host.UI.RawUI.BufferSize = New-Object System.Management.Automation.Host.Size 400, 3000 } catch { }

$given = @{ mark = ''; kind = ''; file = ''; arguments = ''; script = ''; directory = '' }
$environment = @{}
$inputs = @{}
$content = New-Object System.IO.MemoryStream
$hasContent = $false
$isWhole = $false
foreach ($line in $Lines) {
    $words = ([string] $line).Trim().Split(' ')
    $values = @()
    for ($at = 1; $at -lt $words.Length; $at++) { $values += , [Convert]::FromBase64String($words[$at]) }
    $texts = @($values | ForEach-Object { $utf8.GetString([byte[]] $_) })
    switch -CaseSensitive ($words[0]) {
        'environment' { $environment[$texts[0]] = $texts[1] }
        'input' { $inputs[$texts[0]] = $texts[1] }
        'content' { $hasContent = $true; $content.Write($values[0], 0, $values[0].Length) }
        'end' { $isWhole = $texts[0] -ceq $given['mark'] }
        default { if ($given.ContainsKey($words[0])) { $given[$words[0]] = $texts[0] } }
    }
}
if (-not $isWhole) {
    # The worker was lost, or was told to stop, before it had said everything.
    exit 254
}

$console = [Console]::OpenStandardOutput()
function Send-Word([string] $text) {
    $bytes = $utf8.GetBytes($given['mark'] + ' ' + $text + "`n")
    $console.Write($bytes, 0, $bytes.Length)
    $console.Flush()
}
function Stop-Refused([string] $why, [string] $text) {
    Send-Word ('refused ' + $why + ' ' + [Convert]::ToBase64String($utf8.GetBytes($text)))
    exit 253
}

foreach ($name in $environment.Keys) {
    [Environment]::SetEnvironmentVariable($name, $environment[$name], 'Process')
}
if ($given['directory']) {
    try {
        Set-Location -LiteralPath $given['directory']
        [Environment]::CurrentDirectory = (Get-Location).ProviderPath
    } catch {
        Stop-Refused 'directory' $_.Exception.Message
    }
}

if ($given['kind'] -ceq 'program') {
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = $given['file']
    $start.Arguments = $given['arguments']
    $start.WorkingDirectory = [Environment]::CurrentDirectory
    $start.UseShellExecute = $false
    # Output goes straight to where this process's goes, byte for byte and as it comes.
    $start.RedirectStandardInput = $true
    Send-Word 'ready'
    try {
        $process = [System.Diagnostics.Process]::Start($start)
    } catch {
        $cause = $_.Exception
        while ($null -ne $cause.InnerException) { $cause = $cause.InnerException }
        $number = if ($cause -is [System.ComponentModel.Win32Exception]) { $cause.NativeErrorCode } else { 0 }
        Stop-Refused "start-$number" $cause.Message
    }
    try {
        $pipe = $process.StandardInput.BaseStream
        $content.WriteTo($pipe)
        $pipe.Flush()
        $pipe.Close()
    } catch [System.IO.IOException] {
        # It ended, or closed its input, without reading all of it.
    }
    $process.WaitForExit()
    exit $process.ExitCode
}

Send-Word 'ready'
$global:LASTEXITCODE = 0
try {
    $block = [ScriptBlock]::Create($given['script'])
    if ($given['kind'] -ceq 'tool') {
        & $block $inputs $content.ToArray()
    } elseif ($hasContent) {
        $utf8.GetString($content.ToArray()) | & $block
    } else {
        & $block
    }
} catch {
    [Console]::Error.WriteLine(($_ | Out-String).Trim())
    exit 1
}
exit $global:LASTEXITCODE
