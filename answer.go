package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// answers reads the results of one request, in the order of its commands. What a server sends is untrusted: anything may be of
// another type, or an error.
type answers struct {
	ctx     context.Context
	results []valkey.ValkeyResult
	command string // the command whose answer is read next, for errors; PTTL is known by itself
	stream  int64  // that of the request; zero if it is not known
}

func (a *answers) next() valkey.ValkeyResult {
	r := a.results[0]
	a.results = a.results[1:]
	return r
}

// claim reads what came back for one key, and reports whether the key was set just now.
func (a *answers) claim(op *store.Op, setGet bool) (set bool) {
	op.Answer = store.Answer{Stream: a.stream}
	if op.Wake != "" {
		a.next() // it does not matter who made it
		op.WakeTTL, _ = a.ttl(op, op.Wake)
	}
	a.command = "SET"
	if byScript(op) {
		a.command = evalsha
		set = a.token(op)
		a.claimTTL(op)
		return set && op.Err == nil
	}
	found, err := a.value(op)
	switch {
	case op.Force: // whatever was there, ours is there now
		set, op.Holder = err == nil, op.Owner
	case setGet:
		set = err == nil && found == ""
		op.Holder = found
	default: // SET NX said OK or nothing, and GET says who has it
		set = err == nil && found == "OK"
		a.command = "GET"
		op.Holder, _ = a.value(op)
	}
	if set {
		op.Holder = op.Owner
	}
	a.claimTTL(op)
	if set && op.Err != nil { // it is there, although the rest was refused
		op.Unknown = true
	}
	return set && op.Err == nil
}

// claimTTL reads how long the key lives that was claimed.
func (a *answers) claimTTL(op *store.Op) {
	var exists bool
	if op.TTL, exists = a.ttl(op, op.Key); !exists {
		op.Holder = ""
	}
}

// token reads what the script says that claims with a counter: who has the key, whether it was set just now, and the token.
func (a *answers) token(op *store.Op) (set bool) {
	parts, err := a.next().ToArray()
	if err != nil {
		a.fail(op, err)
		return false
	}
	if len(parts) != 3 {
		a.fail(op, errStrange)
		return false
	}
	holder, err := parts[0].ToString()
	now, err2 := parts[1].AsInt64()
	token, err3 := parts[2].AsInt64()
	switch {
	case err != nil || err2 != nil || err3 != nil, holder == op.Owner && token <= 0 && op.Counter != "":
		a.fail(op, errStrange)
		return false
	case holder == "":
		holder = store.Unnamed
	}
	op.Holder, op.Token = holder, token
	return now == 1
}

// errStrange is for answers that no server gives by itself.
var errStrange = errors.New("the server's answer makes no sense")

// extend reads the value from before, and PTTL.
func (a *answers) extend(op *store.Op) {
	op.Answer = store.Answer{}
	op.Holder, _ = a.value(op)
	var exists bool
	if op.TTL, exists = a.ttl(op, op.Key); !exists {
		op.Holder = ""
	}
}

func (a *answers) release(op *store.Op) {
	op.Answer = store.Answer{Stream: a.stream}
	deleted, err := a.next().AsInt64()
	if err != nil {
		a.fail(op, err)
	}
	op.Found = deleted == 1
	a.wake(op)
}

// wake reads what came of deleting the wake key, if there is one.
func (a *answers) wake(op *store.Op) {
	if op.Wake == "" {
		return
	}
	if err := a.next().Error(); err != nil && op.Err == nil {
		a.failed(op, err, "DEL", op.Wake)
	}
}

// number reads a count.
func (a *answers) number(op *store.Op) {
	op.Answer = store.Answer{}
	n, err := a.next().AsInt64()
	if err != nil {
		a.fail(op, err)
		return
	}
	op.Waiting = int32(min(n, math.MaxInt32))
}

func (a *answers) look(op *store.Op) {
	op.Answer = store.Answer{}
	var exists bool
	if op.TTL, exists = a.ttl(op, op.Key); exists {
		op.Holder = store.Unnamed
	}
}

// value reads a string that may be missing. An empty one is somebody's all the same, so it gets a name.
func (a *answers) value(op *store.Op) (string, error) {
	value, err := a.next().ToString()
	switch {
	case valkey.IsValkeyNil(err):
		return "", nil
	case err != nil:
		a.fail(op, err)
		return "", err
	case value == "":
		return store.Unnamed, nil
	}
	return value, nil
}

// ttl reads PTTL of a key.
func (a *answers) ttl(op *store.Op, key string) (ttl time.Duration, exists bool) {
	ms, err := a.next().AsInt64()
	switch {
	case err != nil:
		a.failed(op, err, "PTTL", key)
		return 0, false
	case ms == -1 || ms > store.Forever.Milliseconds():
		return store.Forever, true
	case ms < 0:
		return 0, false
	}
	return time.Duration(ms) * time.Millisecond, true
}

// fail books an error of the command that was read. The first one counts: those behind it follow
// from it.
func (a *answers) fail(op *store.Op, err error) {
	if a.command == evalsha {
		a.failed(op, err, a.command, keys(op)...)
		return
	}
	a.failed(op, err, a.command, op.Key)
}

// failed is fail for any command, about some keys.
func (a *answers) failed(op *store.Op, err error, command string, keys ...string) {
	if op.Err != nil {
		return
	}
	refusal, refused := valkey.IsValkeyErr(err)
	switch {
	case refused && mendable(refusal.Error()):
		op.Err = err
	case refused && denied(refusal.Error()):
		op.Err = store.Permanent(&deniedError{error: err, command: command, keys: keys})
	case refused, errors.Is(err, valkey.ErrClosing), errors.Is(err, valkey.ErrNoCache):
		op.Err = store.Permanent(err)
	case a.ctx.Err() != nil && errors.Is(err, a.ctx.Err()):
		op.Err, op.Unknown = context.Cause(a.ctx), !errors.Is(err, errUnsent)
	default:
		op.Err, op.Unknown = err, !errors.Is(err, errUnsent)
		if isContextError(err) {
			op.Err = notTheCallers{err}
		}
	}
}

// evalsha is how errors call a script.
const evalsha = "EVALSHA"

// deniedError is what a server forbids, with what it was asked for: servers tell a command, or that
// it was about a key, never which.
type deniedError struct {
	error
	command string
	keys    []string
}

// Unwrap gives the server's error.
func (e *deniedError) Unwrap() error { return e.error }

// permissionsPage is where all is that a server has to allow.
const permissionsPage = "https://github.com/ctxlock/ctxlock#permissions"

// Error says what the server was asked for, and where to find what it has to allow.
func (e *deniedError) Error() string {
	asked := e.command
	for _, key := range e.keys {
		asked += " " + quote(key)
	}
	return fmt.Sprintf("%v (it was asked for %s; what it has to allow: %s)", e.error, asked, permissionsPage)
}

// denied tells refusals for want of permission, those of commands in scripts among them.
func denied(refusal string) bool {
	return strings.HasPrefix(refusal, "NOPERM") || strings.Contains(refusal, "ACL failure in script") ||
		strings.Contains(refusal, "user executing the script can't")
}

// explained is the error of a command, permanent and with what was asked for if the server forbids
// that.
func explained(err error, command string) error {
	if denied(refusalOf(err)) {
		return store.Permanent(&deniedError{error: err, command: command})
	}
	return err
}

// notTheCallers is an error that wraps that of some other context, as that of dialing does, for which it must not be taken.
type notTheCallers struct{ error }

// As finds all that is in it.
func (e notTheCallers) As(target any) bool { return errors.As(e.error, target) }

// Is finds ErrNoAnswer where a deadline has passed, and nothing else.
func (e notTheCallers) Is(target error) bool {
	return target == ErrNoAnswer && errors.Is(e.error, context.DeadlineExceeded)
}

func failAll(ops []store.Op, err error) {
	for i := range ops {
		ops[i].Err, ops[i].Unknown = err, false
	}
}

// mendable tells whether a server's refusal is of a kind that passes. What is not known to pass comes back to the caller at once:
// a wait that never ends hides the reason.
func mendable(refusal string) bool {
	code, _, _ := strings.Cut(refusal, " ")
	switch code {
	case "LOADING", "READONLY", "OOM", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "REDIRECT",
		"MISCONF", "NOREPLICAS", "NOSCRIPT", "UNBLOCKED", "NOMASTERLINK", "FAILOVER":
		return true
	}
	return strings.HasPrefix(generic(refusal), "max number of clients")
}
