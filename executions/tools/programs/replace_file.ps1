# What programs that write files on a Windows machine begin with. In one move: who reads a file meanwhile sees the old one
# or the new one.
param([hashtable] $given, [byte[]] $content)

function Stop-With([string] $sentence) {
    [Console]::Error.WriteLine($sentence)
    exit 1
}
function Write-Whole([string] $name, [byte[]] $bytes) {
    if ([IO.Directory]::Exists($name)) { Stop-With "$name is a directory" }
    $folder = [IO.Path]::GetDirectoryName($name)
    if (-not [IO.Directory]::Exists($folder)) { Stop-With "there is no directory $folder" }
    $beside = [IO.Path]::Combine($folder, '.opsconductor.' + [IO.Path]::GetRandomFileName())
    try {
        [IO.File]::WriteAllBytes($beside, $bytes)
        if ([IO.File]::Exists($name)) {
            # Keeps owner and access rights of what was there.
            [IO.File]::Replace($beside, $name, [NullString]::Value)
        } else {
            [IO.File]::Move($beside, $name)
        }
    } finally {
        if ([IO.File]::Exists($beside)) { [IO.File]::Delete($beside) }
    }
}
