# Files on a Windows machine, for file_manager and copy. $given: action (none: what copy does), path, destination,
# source, recursive, overwrite. $content: the bytes to write. Paths are absolute, and never taken for patterns.
$path = [string] $given['path']
$other = [string] $given['destination']

function Test-There([string] $name) {
    return [IO.File]::Exists($name) -or [IO.Directory]::Exists($name)
}
function Copy-Whole([string] $from, [string] $to) {
    if (-not [IO.File]::Exists($from)) { Stop-With "$from is not a regular file, or not there" }
    Write-Whole $to ([IO.File]::ReadAllBytes($from))
    "copied $from to $to"
}
function Remove-There([string] $name) {
    if ([IO.File]::Exists($name)) {
        [IO.File]::Delete($name)
    } elseif ([IO.Directory]::Exists($name)) {
        if ($given['recursive'] -ne 'true') {
            Stop-With "$name is a directory; set recursive to delete it with all that is in it"
        }
        if ([IO.Path]::GetFullPath($name).TrimEnd('\') -eq [IO.Path]::GetPathRoot($name).TrimEnd('\')) {
            Stop-With 'the root directory is not deleted'
        }
        $isLink = ([IO.File]::GetAttributes($name) -band [IO.FileAttributes]::ReparsePoint) -ne 0
        [IO.Directory]::Delete($name, -not $isLink)
    } else {
        "$name was not there"
        return
    }
    "deleted $name"
}
function Move-There([string] $from, [string] $to) {
    if (-not (Test-There $from)) { Stop-With "$from is not there" }
    if ([IO.Directory]::Exists($to)) { Stop-With "$to is a directory; name the file that is to be there" }
    if ([IO.File]::Exists($to)) {
        if ($given['overwrite'] -ne 'true') { Stop-With "$to is there already; set overwrite to replace it" }
        if (-not [IO.File]::Exists($from)) { Stop-With "$from is a directory, and $to is a file" }
        [IO.File]::Delete($to)
    }
    [IO.Directory]::Move($from, $to)
    "moved $from to $to"
}
function Format-Entry([IO.FileSystemInfo] $entry) {
    $size = if ($entry -is [IO.FileInfo]) { $entry.Length } else { 0 }
    $time = $entry.LastWriteTimeUtc.ToString('yyyy-MM-ddTHH:mm:ssZ', [Globalization.CultureInfo]::InvariantCulture)
    '{0,-40} {1,15} {2} {3}' -f $entry.Attributes, $size, $time, $entry.Name
}

switch -CaseSensitive ([string] $given['action']) {
    'read' {
        if ([IO.Directory]::Exists($path)) { Stop-With "$path is a directory" }
        $file = New-Object IO.FileStream $path, 'Open', 'Read', 'ReadWrite, Delete'
        try { $file.CopyTo([Console]::OpenStandardOutput()) } finally { $file.Dispose() }
    }
    'list' {
        if (-not [IO.Directory]::Exists($path)) { Stop-With "there is no directory $path" }
        $entries = (New-Object IO.DirectoryInfo $path).GetFileSystemInfos()
        foreach ($entry in $entries | Sort-Object -Property Name) { Format-Entry $entry }
    }
    'stat' {
        if ([IO.Directory]::Exists($path)) { Format-Entry (New-Object IO.DirectoryInfo $path) }
        elseif ([IO.File]::Exists($path)) { Format-Entry (New-Object IO.FileInfo $path) }
        else { Stop-With "$path is not there" }
    }
    'exists' {
        if (-not (Test-There $path)) { Stop-With "$path is not there" }
        "$path is there"
    }
    'write' {
        Write-Whole $path $content
        "wrote $path, $($content.Length) bytes"
    }
    'append' {
        if ([IO.Directory]::Exists($path)) { Stop-With "$path is a directory" }
        $file = New-Object IO.FileStream $path, 'Append', 'Write', 'Read'
        try { $file.Write($content, 0, $content.Length) } finally { $file.Dispose() }
        "appended to $path"
    }
    'delete' { Remove-There $path }
    'mkdir' {
        if ([IO.File]::Exists($path)) { Stop-With "$path is a file" }
        [void] [IO.Directory]::CreateDirectory($path)
        "$path is a directory"
    }
    'copy' { Copy-Whole $path $other }
    'move' { Move-There $path $other }
    '' {
        # What the tool copy does: from a file of the target, or from what was sent.
        if ($given['source']) {
            Copy-Whole ([string] $given['source']) $path
        } else {
            Write-Whole $path $content
            "wrote $path"
        }
    }
    default { Stop-With "unknown action $($given['action'])" }
}
