// Scripts that do what whoever asks for the page says. Looked for in files written into web roots.

rule php_request_to_code : webshell php
{
    meta:
        description = "A PHP page hands what a visitor sends to something that executes it."
        level = 0
    strings:
        $php = "<?"
        $run = /\b(eval|assert|system|exec|shell_exec|passthru|popen|proc_open|pcntl_exec|create_function)\s*\([^;\n]{0,80}\$_(GET|POST|REQUEST|COOKIE|SERVER|FILES)\s*\[/ nocase
        $tick = /`[^`\n]{0,60}\$_(GET|POST|REQUEST|COOKIE)\s*\[/
        $body = /\b(eval|assert|system|shell_exec|passthru)\s*\([^;\n]{0,60}file_get_contents\s*\(\s*["']php:\/\/input/ nocase
    condition:
        reason == "web" and filesize < 2MB and $php and any of ($run, $tick, $body)
}

rule php_decoded_code : webshell php
{
    meta:
        description = "A PHP page unpacks text and executes it, as hidden web shells do."
        level = 0
    strings:
        $php = "<?"
        $run = /\b(eval|assert)\s*\(\s*(@?\w{1,30}\s*\(\s*){0,4}@?(base64_decode|gzinflate|gzuncompress|gzdecode|str_rot13|convert_uudecode|hex2bin|strrev)\s*\(/ nocase
    condition:
        reason == "web" and filesize < 2MB and $php and $run
}

rule php_request_names_function : webshell php
{
    meta:
        description = "A PHP page calls the function a visitor names."
        level = 0
    strings:
        $php = "<?"
        $call = /\$_(GET|POST|REQUEST|COOKIE)\s*\[[^\]\n]{1,40}\]\s*\(\s*@?\$_(GET|POST|REQUEST|COOKIE)/
        $user = /\b(call_user_func|call_user_func_array|array_map|array_filter|usort|uasort|register_shutdown_function)\s*\(\s*@?\$_(GET|POST|REQUEST|COOKIE)\s*\[/ nocase
    condition:
        reason == "web" and filesize < 2MB and $php and any of ($call, $user)
}

rule jsp_request_to_process : webshell jsp
{
    meta:
        description = "A JSP page starts the program a visitor names."
        level = 0
    strings:
        $page = "<%"
        $ask = /request\s*\.\s*(getParameter|getHeader|getQueryString|getInputStream|getReader)\s*\(/
        $run = /(getRuntime\s*\(\s*\)\s*\.\s*exec|new\s+ProcessBuilder)\s*\(/
    condition:
        reason == "web" and filesize < 2MB and $page and $ask and $run
}

rule jsp_request_to_class : webshell jsp
{
    meta:
        description = "A JSP page loads a class that a visitor sends, as the clients of web shells do."
        level = 0
    strings:
        $page = "<%"
        $ask = /request\s*\.\s*(getParameter|getHeader|getInputStream|getReader)\s*\(/
        $define = /\bdefineClass\s*\(/
        $loader = "ClassLoader"
    condition:
        reason == "web" and filesize < 2MB and all of them
}

rule aspx_request_to_code : webshell aspx
{
    meta:
        description = "An ASP or ASP.NET page hands what a visitor sends to something that executes it."
        level = 0
    strings:
        $page = /<%|<script[^>\n]{0,60}runat/ nocase
        $eval = /\b(eval|execute|executeglobal)\s*\(?\s*\(?\s*request\s*(\.\s*\w{1,20}\s*)?[(\[]/ nocase
        $start = /Process(\s*\.\s*Start|StartInfo)\s*\(/ nocase
        $shell = /WScript\.Shell/ nocase
        $ask = /\bRequest\s*(\.\s*(Form|QueryString|Params|Item|Headers)\s*)?[(\[]/ nocase
    condition:
        reason == "web" and filesize < 2MB and $page and ($eval or ($ask and any of ($start, $shell)))
}
