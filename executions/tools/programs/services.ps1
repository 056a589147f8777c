# Services of a Windows machine, for systemctl. $given: action, service (its name or its display name, not a pattern).
# Exit 3: it does not run; 4: there is none; 1: it is not enabled, or would not do what it was told.
param([hashtable] $given, [byte[]] $content)
$action = [string] $given['action']

if ($action -ceq 'list-units') {
    Get-Service | Sort-Object -Property Name | ForEach-Object { '{0,-50} {1,-15} {2}' -f $_.Name, $_.Status, $_.DisplayName }
    exit 0
}
$name = [string] $given['service'] -replace '\.service$', ''
# Compared one by one: Get-Service would take a name for a pattern.
$service = Get-Service | Where-Object { $_.Name -eq $name -or $_.DisplayName -eq $name } | Select-Object -First 1
if ($null -eq $service) {
    [Console]::Error.WriteLine("there is no service $name")
    exit 4
}
$start = [string] (Get-CimInstance -ClassName Win32_Service | Where-Object { $_.Name -eq $service.Name }).StartMode
$seconds = New-Object TimeSpan 0, 1, 40

function Start-It {
    if ($service.Status -ne 'Running') {
        $service.Start()
        $service.WaitForStatus('Running', $seconds)
    }
}
function Stop-It {
    if ($service.Status -ne 'Stopped') {
        Stop-Service -InputObject $service -Force
        $service.WaitForStatus('Stopped', $seconds)
    }
}

switch -CaseSensitive ($action) {
    'status' {
        "$($service.Name): $($service.DisplayName)"
        "state: $($service.Status)"
        "start: $start"
        if ($service.Status -ne 'Running') { exit 3 }
    }
    'is-active' {
        ([string] $service.Status).ToLowerInvariant()
        if ($service.Status -ne 'Running') { exit 3 }
    }
    'is-enabled' {
        $start.ToLowerInvariant()
        if ($start -eq 'Disabled') { exit 1 }
    }
    'start' { Start-It; "$($service.Name) runs" }
    'stop' { Stop-It; "$($service.Name) is stopped" }
    'restart' { Stop-It; $service.Refresh(); Start-It; "$($service.Name) was restarted" }
    'enable' { Set-Service -Name $service.Name -StartupType Automatic; "$($service.Name) starts by itself" }
    'disable' { Set-Service -Name $service.Name -StartupType Disabled; "$($service.Name) is disabled" }
    default {
        [Console]::Error.WriteLine("unknown action $action")
        exit 2
    }
}
