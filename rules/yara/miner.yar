// Programs and settings that spend this host's processors on coins.

rule miner_program : miner
{
    meta:
        description = "A program that speaks the protocol of mining pools and knows how to mine."
        level = 0
    strings:
        $pool1 = "stratum+tcp://"
        $pool2 = "stratum+ssl://"
        $say1 = "mining.subscribe"
        $say2 = "mining.authorize"
        $say3 = "\"method\":\"login\""
        $how1 = "donate-level"
        $how2 = "randomx" nocase
        $how3 = "cryptonight" nocase
        $how4 = "hugepages" nocase
    condition:
        uint32(0) == 0x464c457f and any of ($pool*, $say*) and 2 of ($how*)
}

rule miner_start_script : miner
{
    meta:
        description = "A script that starts a miner for somebody's pool."
        level = 0
    strings:
        $script = /^#![^\n]{0,40}(sh|python[0-9.]*|perl)\b/
        $pool = /(stratum\+(tcp|ssl):\/\/|--?(o|url)[ =])[a-z0-9.-]{4,60}:[0-9]{2,5}/ nocase
        $how = /--(donate-level|coin|rig-id|nicehash|randomx-[a-z-]{2,20}|cpu-max-threads-hint)\b/
    condition:
        filesize < 1MB and $script at 0 and $pool and $how
}
