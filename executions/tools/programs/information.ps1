# Facts about a Windows machine. $given: kind, path (disk only).
param([hashtable] $given, [byte[]] $content)
$system = Get-CimInstance -ClassName Win32_OperatingSystem

switch -CaseSensitive ([string] $given['kind']) {
    'uptime' {
        $since = $system.LastBootUpTime
        $for = (Get-Date) - $since
        'up {0} days, {1:00}:{2:00}, since {3:yyyy-MM-ddTHH:mm:ssK}' -f $for.Days, $for.Hours, $for.Minutes, $since
    }
    'disk' {
        '{0,-6} {1,10} {2,10} {3,5} {4}' -f 'DRIVE', 'SIZE GB', 'FREE GB', 'USED', 'LABEL'
        $root = if ($given['path']) { [IO.Path]::GetPathRoot([string] $given['path']).TrimEnd('\') } else { '' }
        $shown = $false
        foreach ($disk in Get-CimInstance -ClassName Win32_LogicalDisk -Filter 'DriveType = 3') {
            if ($root -and $disk.DeviceID -ne $root) { continue }
            $shown = $true
            $used = if ($disk.Size) { [math]::Round(100 * (1 - $disk.FreeSpace / $disk.Size)) } else { 0 }
            $size = [math]::Round($disk.Size / 1073741824, 1)
            $free = [math]::Round($disk.FreeSpace / 1073741824, 1)
            '{0,-6} {1,10} {2,10} {3,4}% {4}' -f $disk.DeviceID, $size, $free, $used, $disk.VolumeName
        }
        if (-not $shown) {
            [Console]::Error.WriteLine("there is no local disk $root")
            exit 1
        }
    }
    'memory' {
        $total = [math]::Round($system.TotalVisibleMemorySize / 1024)
        $free = [math]::Round($system.FreePhysicalMemory / 1024)
        'total {0} MB, free {1} MB, used {2} MB' -f $total, $free, ($total - $free)
    }
    'cpu' {
        foreach ($cpu in Get-CimInstance -ClassName Win32_Processor) {
            '{0}: {1} cores, {2} threads, load {3} %' -f
                $cpu.Name, $cpu.NumberOfCores, $cpu.NumberOfLogicalProcessors, $cpu.LoadPercentage
        }
    }
    'os' { '{0} {1} ({2})' -f $system.Caption, $system.Version, $system.OSArchitecture }
    'hostname' { [Net.Dns]::GetHostName() }
    default {
        [Console]::Error.WriteLine("unknown kind $($given['kind'])")
        exit 2
    }
}
