# What a Windows machine sees of the network, for network_tools, tcp_port_check and dns_lookup. $given: action (none: tcp
# with a port, else dns); target, host or name; port; count; wait_seconds or timeout. Exit 0 yes, 1 no.
param([hashtable] $given, [byte[]] $content)
$target = [string] (@($given['target'], $given['host'], $given['name']) | Where-Object { $_ } | Select-Object -First 1)
$seconds = [int] (@($given['wait_seconds'], $given['timeout'], '5') | Where-Object { $_ } | Select-Object -First 1)
$action = [string] $given['action']
if (-not $action) { $action = if ($given['port']) { 'tcp' } else { 'dns' } }

function Stop-With([string] $sentence) {
    [Console]::Error.WriteLine($sentence)
    exit 1
}

switch -CaseSensitive ($action) {
    'ping' {
        $ping = New-Object Net.NetworkInformation.Ping
        $answers = 0
        for ($number = 1; $number -le [int] $given['count']; $number++) {
            try {
                $reply = $ping.Send($target, $seconds * 1000)
                "$number from $($reply.Address): $($reply.Status), $($reply.RoundtripTime) ms"
                if ($reply.Status -eq 'Success') { $answers++ }
            } catch {
                Stop-With "$target cannot be asked: $($_.Exception.GetBaseException().Message)"
            }
        }
        if (-not $answers) { Stop-With "$target does not answer" }
    }
    'dns' {
        try {
            $addresses = [Net.Dns]::GetHostAddresses($target)
        } catch {
            Stop-With "$target does not resolve: $($_.Exception.GetBaseException().Message)"
        }
        if (-not $addresses) { Stop-With "$target does not resolve" }
        $addresses | ForEach-Object { $_.ToString() } | Select-Object -Unique
    }
    'tcp' {
        $port = [int] $given['port']
        $client = New-Object Net.Sockets.TcpClient
        try {
            $asked = $client.BeginConnect($target, $port, $null, $null)
            if (-not $asked.AsyncWaitHandle.WaitOne($seconds * 1000)) {
                Stop-With "port $port of ${target}: no answer within $seconds s"
            }
            try {
                $client.EndConnect($asked)
            } catch {
                Stop-With "port $port of $target is not open: $($_.Exception.GetBaseException().Message)"
            }
        } finally {
            $client.Close()
        }
        "port $port of $target is open"
    }
    default { Stop-With "unknown action $action" }
}
