package ctxlock

import (
	"errors"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// script is a Lua script that servers know by its SHA-1. The sums are written down, not worked out: SHA-1 is forbidden where
// Go runs in FIPS mode. TestScriptSums checks them.
type script struct{ text, sha1 string }

var (
	// extendScript gives a key its validity again if it has our value, and returns the value that it found.
	extendScript = script{
		text: `local v=redis.call("GET",KEYS[1]) if v==ARGV[1] then redis.call(ARGV[2],KEYS[1],ARGV[3]) end return v`,
		sha1: "aea567d8fa4a48fc2121f298b00ba88b8e8cf914",
	}
	// releaseScript deletes a key if it has our value.
	releaseScript = script{
		text: `if redis.call("GET",KEYS[1])==ARGV[1] then return redis.call("DEL",KEYS[1]) end return 0`,
		sha1: "8f464d4a626461dd45dd7ecb315f41a7354a3819",
	}
)

// command is the script's call; whole sends its text, which also makes the server know it.
func (s *script) command(b valkey.Builder, whole bool, key string, args ...string) valkey.Completed {
	if whole {
		return b.Eval().Script(s.text).Numkeys(1).Key(key).Arg(args...).Build()
	}
	return b.Evalsha().Sha1(s.sha1).Numkeys(1).Key(key).Arg(args...).Build()
}

// unknownScript tells whether a server did not know a script by its sum, as after SCRIPT FLUSH.
func unknownScript(err error) bool {
	return strings.HasPrefix(refusalOf(err), "NOSCRIPT")
}

// unknownCommand tells whether a server is too old for a command or for its options.
func unknownCommand(err error) bool {
	refusal := generic(refusalOf(err))
	return strings.HasPrefix(refusal, "unknown command") || strings.HasPrefix(refusal, "syntax error")
}

// outOfMemory tells whether a server refused a command that may need memory. SET is of that kind even where it only gives a key a
// new expiry; the script is not.
func outOfMemory(err error) bool { return strings.HasPrefix(refusalOf(err), "OOM ") }

// refusalOf is what a server has said no with; empty if it has not.
func refusalOf(err error) string {
	if err == nil { // which is the usual case, and what follows allocates
		return ""
	}
	var refusal *valkey.ValkeyError
	if !errors.As(err, &refusal) {
		return ""
	}
	return refusal.Error()
}

// generic is a refusal without the code of those that have none of their own. valkey-go cuts it off, too, where it reads replies.
func generic(refusal string) string { return strings.TrimPrefix(refusal, "ERR ") }
