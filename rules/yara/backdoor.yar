// Ways back in: shells that call home, and libraries that hide what runs.

rule reverse_shell_of_shell : backdoor
{
    meta:
        description = "A script that gives a shell to another host through the shell's own network device, a pipe or a network tool."
        level = 0
    strings:
        $dev = /\b(ba|z|k|da)?sh\s+-i\b[^\n]{0,40}\/dev\/(tcp|udp)\/[\w.$-]{1,60}\/[\w$]{1,20}/
        $exec = /\bexec\s+[0-9]{1,3}<>\s*\/dev\/(tcp|udp)\/[^\n]{3,80}[;\n]\s*[^\n]{0,120}(sh\s+<&|cat\s+<&|while\s+read)/
        $fifo = /\bmkfifo\s+[^\n;|&]{1,60}[;&|\n][^\n]{0,120}sh\s+-i\b[^\n]{0,40}\|\s*(nc|ncat|netcat|openssl|telnet)\b/
        $tool = /\b(nc|ncat|netcat|socat)\b[^\n]{0,80}(\s-[a-z]{0,4}[ec]\s+|exec:['"]?)\/(usr\/)?bin\/(ba|z|da)?sh\b/ nocase
    condition:
        filesize < 1MB and uint32(0) != 0x464c457f and any of them
}

rule reverse_shell_of_language : backdoor
{
    meta:
        description = "A script that connects to another host and gives it a shell."
        level = 0
    strings:
        $python1 = /\bsocket\.socket\s*\(/
        $python2 = /\.connect\s*\(\s*\(/
        $python3 = /\bos\.dup2\s*\(\s*\w{1,20}\.fileno\s*\(\s*\)\s*,\s*[012]\s*\)/
        $python4 = /\b(pty\.spawn|subprocess\.(call|run|Popen)|os\.(system|exec[lv]p?e?))\s*\(\s*\[?\s*["'](\/(usr\/)?bin\/)?(ba|z|da)?sh["']/
        $perl1 = /\bsocket\s*\(\s*\w{1,20}\s*,\s*PF_INET\s*,\s*SOCK_STREAM/
        $perl2 = /\bopen\s*\(\s*STD(IN|OUT|ERR)\s*,\s*["']>&\w{1,20}["']\s*\)/
        $perl3 = /\bexec\s*[({]?\s*["']\/(usr\/)?bin\/(ba|z|da)?sh\b/
        $php1 = /\bfsockopen\s*\(/
        $php2 = /\b(proc_open|shell_exec|exec)\s*\(\s*["'](\/(usr\/)?bin\/)?(ba|z|da)?sh\s+-i\b/
    condition:
        filesize < 1MB and uint32(0) != 0x464c457f
        and (all of ($python*) or all of ($perl*) or all of ($php*))
}

rule download_and_settle : dropper
{
    meta:
        description = "A script that fetches a program into a folder anyone can write to, runs it, and sees to it that it runs again."
        level = 0
    strings:
        $script = /^#![^\n]{0,40}sh\b/
        $get = /\b(curl|wget)\b[^\n]{0,160}(\/tmp\/|\/var\/tmp\/|\/dev\/shm\/)/
        $allow = /\bchmod\s+([0-7]?7[0-7]{2}|[ugoa]*\+x)\s+[^\n]{0,10}(\/tmp\/|\/var\/tmp\/|\/dev\/shm\/)/
        $again1 = /\|\s*crontab\s+-/
        $again2 = /\/etc\/(cron\.[a-z]{1,8}|ld\.so\.preload|rc\.local|systemd\/system)/
        $again3 = /\bchattr\s+\+i/
    condition:
        filesize < 1MB and $script at 0 and $get and $allow and any of ($again*)
}

rule preload_library_hides : rootkit
{
    meta:
        description = "A library that replaces how programs list folders, and names the file that loads it into all of them."
        level = 0
    strings:
        $preload = "/etc/ld.so.preload"
        $next = "dlsym"
        $list = /\x00readdir(64)?\x00/
        $proc = /\/proc\/(self\/fd\/|%[sd]|net\/tcp)/
        $hook = /\x00(fopen(64)?|open(64)?|__xstat(64)?|lstat(64)?|unlink(at)?)\x00/
    condition:
        uint32(0) == 0x464c457f and filesize < 2MB and uint16(16) == 3 and all of them
}
