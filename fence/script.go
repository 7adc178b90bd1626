package fence

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"
)

// maxToken is the greatest token: scripts count in floating point, where it is the last number that has no neighbour's value.
const maxToken = 1<<53 - 1

// script runs the command ARGV[3] on KEYS[1] with the rest of ARGV unless KEYS[2] has a token above ARGV[1]. ARGV[2] is for how
// many milliseconds to remember the token, or 0. The answer begins with what has happened, see run.
//
// The token is noted before the command runs. The other way round a note that fails, as on a full server, would come when the
// command can no longer be taken back. It is noted by SET alone: a full server refuses that, but after a first write that needs
// no memory, such as PERSIST, it lets a script write on without limit. What is in KEYS[2] may be anybody's.
const script = `local seen=redis.pcall("GET",KEYS[2])
if type(seen)=="table" then return seen end
if seen then
if not string.find(seen,"^[1-9]%d*$") or #seen>16 or tonumber(seen)>9007199254740991 then return {"foreign"} end
if tonumber(ARGV[1])<tonumber(seen) then return {"stale",seen} end
end
if ARGV[2]~="0" then redis.call("SET",KEYS[2],ARGV[1],"PX",ARGV[2])
elseif seen~=ARGV[1] or redis.call("PTTL",KEYS[2])>=0 then redis.call("SET",KEYS[2],ARGV[1]) end
if not ARGV[3] then return {"passed"} end
return {"passed",redis.pcall(ARGV[3],KEYS[1],unpack(ARGV,4))}`

// scriptSum is the script's SHA-1. It is written down, not worked out, as valkey.NewLuaScript would: SHA-1 is forbidden where Go
// runs in FIPS mode. The spec of one round trip checks it.
const scriptSum = "ac73de89fdc4bddd76e4e1ed6c7a279f58ffd2df"

var (
	errNoToken = errors.New("there is no token in the place of the last one seen (Forget removes what is there)")
	errAnswer  = errors.New("the server's answer makes no sense")
)

// run has the server check a token, and run a command if there is one.
func (r *Resource) run(ctx context.Context, token int64, command ...string) (reply valkey.ValkeyMessage, err error) {
	if err := r.check(ctx); err != nil {
		return reply, err
	}
	if token < 1 || token > maxToken {
		return reply, r.failed(fmt.Errorf("%d is no token: those are from 1 to 2^53-1, "+
			"and a lock has one only if it was acquired with Fencing; of several that were taken together (AcquireAll), "+
			"each has its own: see Lock.Each", token))
	}
	keep := r.Keep.Milliseconds()
	if r.Keep%time.Millisecond > 0 {
		keep++
	}
	args := append([]string{strconv.FormatInt(token, 10), strconv.FormatInt(keep, 10)}, command...)
	answer, err := r.eval(ctx, args).ToArray()
	if err != nil {
		return reply, r.failed(err)
	}
	if len(answer) == 0 {
		return reply, r.failed(errAnswer)
	}
	switch what, _ := answer[0].ToString(); {
	case what == "passed" && len(command) == 0:
		return reply, nil
	case what == "passed" && len(answer) == 2:
		if err := answer[1].Error(); err != nil && !answer[1].IsNil() {
			return reply, r.failed(err)
		}
		return answer[1], nil
	case what == "stale" && len(answer) == 2:
		text, _ := answer[1].ToString()
		if seen, ok := parseToken(text); ok && seen > token {
			return reply, &StaleError{Key: r.Key, Token: token, Seen: seen}
		}
	case what == "foreign":
		return reply, r.failed(errNoToken)
	}
	return reply, r.failed(errAnswer)
}

// eval sends the script by its sum, and as a whole to a server that does not know it.
func (r *Resource) eval(ctx context.Context, args []string) valkey.ValkeyResult {
	fence := fenceKey(r.Key)
	result := r.Client.Do(ctx, r.Client.B().Evalsha().Sha1(scriptSum).Numkeys(2).Key(r.Key, fence).Arg(args...).Build())
	if refusal, ok := valkey.IsValkeyErr(result.Error()); ok && refusal.IsNoScript() {
		result = r.Client.Do(ctx, r.Client.B().Eval().Script(script).Numkeys(2).Key(r.Key, fence).Arg(args...).Build())
	}
	return result
}

// parseToken reads a token as it is noted, and nothing else.
func parseToken(text string) (int64, bool) {
	token, err := strconv.ParseInt(text, 10, 64)
	return token, err == nil && token >= 1 && token <= maxToken && strconv.FormatInt(token, 10) == text
}
