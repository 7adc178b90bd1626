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

	// claimScript sets a key to our value if it does not exist, by force, or if it has the owner value of another whom it is to be taken
	// from; and takes the next fencing token, if there is a second key, the counter. It returns whose the key is, whether it was set just
	// now, and the token. A key that is ours already, because the reply to the first request was lost, has its token in the counter. What is
	// read is read first, so that a stranger's counter keeps anything from being set.
	//
	// The token is the greatest of: the counter plus one, the server's time in microseconds, and the greatest token that the caller has
	// seen plus one. The counter lives until the server's time has passed it, and an hour more, so that time takes over where it
	// ends, also if the clock is set back by up to an hour. Numbers beyond 2^53 are no longer exact.
	claimScript = script{
		text: `local v=redis.call("GET",KEYS[1]) ` +
			`if v and v~=ARGV[1] and ARGV[4]~="1" and (ARGV[6]=="" or string.match(v,"^[^\n]*")~=ARGV[6]) then return {v,0,"0"} end ` +
			`local c=KEYS[2] and tonumber(redis.call("GET",KEYS[2]) or 0) or not KEYS[2] and 0 ` +
			`if not c or c~=c or c<0 or c>=9e15 or tonumber(ARGV[5])>=9e15 then return redis.error_reply("CTXLOCKTOKEN the counter of fencing tokens is not to be used") end ` +
			`if v==ARGV[1] and c>0 and c>tonumber(ARGV[5]) then return {v,0,string.format("%.0f",c)} end ` +
			`local s=0 if v~=ARGV[1] then redis.call("SET",KEYS[1],ARGV[1],ARGV[2],ARGV[3]) s=1 end ` +
			`if not KEYS[2] then return {ARGV[1],s,"0"} end ` +
			`local t=redis.call("TIME") local now=t[1]*1000000+t[2] ` +
			`local k=string.format("%.0f",math.max(c+1,math.min(now,9e15),ARGV[5]+1)) ` +
			`redis.call("SET",KEYS[2],k,"PX",string.format("%.0f",math.max(k-now,0)/1000+3600000)) ` +
			`return {ARGV[1],s,k}`,
		sha1: "21faecbcf0f83b03ab16da8444bdd20198103098",
	}
	// raiseScript is extendScript that raises the counter to a token as well.
	raiseScript = script{
		text: `local v=redis.call("GET",KEYS[1]) if v==ARGV[1] then ` +
			`local c=tonumber(redis.call("GET",KEYS[2]) or 0) ` +
			`if not c or c~=c or c>=9e15 then return redis.error_reply("CTXLOCKTOKEN the counter of fencing tokens is not to be used") end ` +
			`if c<tonumber(ARGV[4]) then local t=redis.call("TIME") ` +
			`redis.call("SET",KEYS[2],ARGV[4],"PX",string.format("%.0f",math.max(ARGV[4]-t[1]*1000000-t[2],0)/1000+3600000)) end ` +
			`redis.call(ARGV[2],KEYS[1],ARGV[3]) end return v`,
		sha1: "d9f93520c2a341c2386137ffe448a19cfe713f9c",
	}

	// enlistScript notes how many somebody stands for, and until when, and forgets those whose time is over: all of them, or on long lists
	// some that are drawn, so that it takes no longer the more there are.
	enlistScript = script{
		text: `local t=redis.call("TIME") local now=t[1]*1000+t[2]/1000 local last=now ` +
			`if ARGV[2]=="0" then redis.call("HDEL",KEYS[1],ARGV[1]) else last=now+ARGV[3] ` +
			`redis.call("HSET",KEYS[1],ARGV[1],ARGV[2].." "..string.format("%.0f",last)) end ` +
			`local all if redis.call("HLEN",KEYS[1])<=64 then all=redis.call("HGETALL",KEYS[1]) ` +
			`else all=redis.call("HRANDFIELD",KEYS[1],8,"WITHVALUES") last=math.max(last,now+redis.call("PTTL",KEYS[1])) end ` +
			`for i=1,#all,2 do local e=tonumber(string.match(all[i+1]," (%d+)$")) ` +
			`if not e or e<now then redis.call("HDEL",KEYS[1],all[i]) else last=math.max(last,e) end end ` +
			`return redis.call("PEXPIRE",KEYS[1],string.format("%.0f",last-now+1))`,
		sha1: "2fcffbcce6220faa539982ca445a39b02eabb36f",
	}
	// waitingScript counts for how many those on the list stand.
	waitingScript = script{
		text: `local t=redis.call("TIME") local now=t[1]*1000+t[2]/1000 local n=0 ` +
			`local all=redis.call("HGETALL",KEYS[1]) ` +
			`for i=2,#all,2 do local c,e=string.match(all[i],"^(%d+) (%d+)$") if c and tonumber(e)>=now then n=n+tonumber(c) end end ` +
			`return n`,
		sha1: "902fa587d6dcd2edd1b47fca84b07182f74f5e74",
	}
)

// command is the script's call; whole sends its text, which also makes the server know it.
func (s *script) command(b valkey.Builder, whole bool, keys []string, args ...string) valkey.Completed {
	if whole {
		return b.Eval().Script(s.text).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
	}
	return b.Evalsha().Sha1(s.sha1).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
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
