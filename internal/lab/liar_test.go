package lab

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"
)

// What the library sends; ctxlock itself is not to be had here, it needs the laboratory.
const (
	extendText  = `local v=redis.call("GET",KEYS[1]) if v==ARGV[1] then redis.call(ARGV[2],KEYS[1],ARGV[3]) end return v`
	raiseText   = extendText + ` --raise`
	claimText   = `return {"honest",0,"0"}` // its form is what counts
	releaseText = `if redis.call("GET",KEYS[1])==ARGV[1] then return redis.call("DEL",KEYS[1]) end return 0`
)

// startLiar runs a liar and gives a function that asks it, as Server.Do does.
func startLiar(t *testing.T, lie Lie) (*Liar, func(...string) (any, error)) {
	t.Helper()
	l, err := StartLiar(lie)
	must(t, err)
	t.Cleanup(l.Close)
	c := &client{addr: l.Addr(), timeout: 5 * time.Second}
	t.Cleanup(c.close)
	return l, c.do
}

// setsIfEqual tells whether a server has SET IFEQ.
func setsIfEqual(b Binary) bool { return b.AtLeast("valkey", 8, 1) || b.AtLeast("redis", 8, 4) }

func TestLiarGrantsEveryClaim(t *testing.T) {
	t.Parallel()
	l, do := startLiar(t, Grants)
	in := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	for _, owner := range []string{"a", "b"} {
		expect(t, do, nil, "SET", "k", owner, "PX", "5000", "NX", "GET")
		expect(t, do, int64(5000), "PTTL", "k")
		expect(t, do, owner, "EVAL", extendText, "1", "k", owner, "PEXPIRE", "7000")
		expect(t, do, int64(7000), "PTTL", "k")
		expect(t, do, owner, "GET", "k")
		expect(t, do, owner, "EVALSHA", strings.Repeat("0", 40), "1", "k", owner, "PEXPIREAT", in)
		if ttl, err := do("PTTL", "k"); err != nil || ttl.(int64) < 3_590_000 || ttl.(int64) > 3_600_000 {
			t.Error(ttl, err)
		}
		expect(t, do, owner, "SET", "k", owner, "PX", "8000", "IFEQ", owner, "GET")
		expect(t, do, int64(8000), "PTTL", "k")
	}
	for _, args := range [][]string{
		{"EVAL", releaseText, "1", "k", "a"}, {"EVALSHA", strings.Repeat("0", 40), "1", "k", "b"},
		{"DELIFEQ", "k", "c"}, {"DELEX", "k", "IFEQ", "d"},
	} {
		expect(t, do, int64(1), args...)
	}
	expect(t, do, nil, "SET", "k2", "a", "NX", "GET", "PXAT", in)
	if ttl, err := do("PTTL", "k2"); err != nil || ttl.(int64) < 3_590_000 || ttl.(int64) > 3_600_000 {
		t.Error(ttl, err)
	}
	expect(t, l.Server.Do, int64(0), "EXISTS", "k", "k2")
}

func TestLiarLiesAboutFencingTokens(t *testing.T) {
	t.Parallel()
	for lie, want := range map[Lie]string{Grants: "a 1 1", Denies: "liar 0 0", Forgets: "a 1 1"} {
		_, do := startLiar(t, lie)
		// By its sum, which the server does not know: it is the liar who answers.
		reply, err := do("EVALSHA", strings.Repeat("0", 40), "2", "k", "counter", "a", "PX", "5000", "0", "7")
		parts, ok := reply.([]any)
		if !ok || len(parts) != 3 {
			t.Fatal(lie, reply, err)
		}
		if token := parts[2].(string); len(token) == len("1700000000000000") { // the time, in microseconds
			parts[2] = token[:1]
		}
		if got := fmt.Sprintf("%v %v %v", parts...); got != want {
			t.Errorf("it %v: %s, want %s", lie, got, want)
		}
		extended, err := do("EVAL", raiseText, "2", "k", "counter", "a", "PEXPIRE", "6000", "9")
		if want := map[Lie]any{Grants: "a", Denies: "liar", Forgets: nil}[lie]; extended != want || err != nil {
			t.Error(lie, extended, err)
		}
		reply, err = do("EVAL", claimText, "2", "k", "counter", "a", "PX", "5000", "1", "7") // by force
		if got := fmt.Sprint(reply); got != "[honest 0 0]" {
			t.Error(lie, got, err)
		}
	}
}

func TestLiarDeniesEveryClaim(t *testing.T) {
	t.Parallel()
	l, do := startLiar(t, Denies)
	for range 2 {
		expect(t, do, "liar", "SET", "k", "a", "PX", "5000", "NX", "GET")
		expect(t, do, int64(1000), "PTTL", "k")
		expect(t, do, "liar", "GET", "k")
	}
	expect(t, do, "liar", "EVAL", extendText, "1", "k", "a", "PEXPIRE", "5000")
	expect(t, do, int64(0), "EVAL", releaseText, "1", "k", "a")
	expect(t, l.Server.Do, int64(0), "EXISTS", "k")
}

func TestLiarForgetsWhatItWasTold(t *testing.T) {
	t.Parallel()
	l, do := startLiar(t, Forgets)
	for _, owner := range []string{"a", "b"} {
		expect(t, do, nil, "SET", "k", owner, "PX", "5000", "NX", "GET")
		expect(t, do, int64(5000), "PTTL", "k")
		expect(t, do, int64(5000), "PTTL", "k")
		expect(t, do, owner, "GET", "k")
	}
	expect(t, l.Server.Do, nil, "GET", "k")
	expect(t, do, nil, "EVAL", extendText, "1", "k", "b", "PEXPIRE", "5000")
	expect(t, do, int64(-2), "PTTL", "k")
	expect(t, do, nil, "GET", "k")
	expect(t, do, int64(0), "EVAL", releaseText, "1", "k", "b")

	expect(t, l.Server.Do, "OK", "SET", "k", "somebody", "PX", "90000")
	expect(t, do, "somebody", "SET", "k", "a", "PX", "5000", "NX", "GET")
	if ttl, err := do("PTTL", "k"); err != nil || ttl.(int64) < 80_000 {
		t.Error(ttl, err)
	}
}

func TestLiarGarblesItsReplies(t *testing.T) {
	t.Parallel()
	l, do := startLiar(t, Garbles)
	says := func(want string, args ...string) {
		t.Helper()
		reply, err := do(args...)
		if got := fmt.Sprintf("%v %v", reply, err); got != want {
			t.Errorf("%v: %s, want %s", args, got, want)
		}
	}
	for i, reply := range []string{"7 <nil>", "[liar [7]] <nil>", "<nil> LIAR no", "[] <nil>", "7 <nil>"} {
		says(reply, "SET", fmt.Sprint("k", i), "a", "PX", "5000", "NX", "GET")
	}
	says("soon <nil>", "PTTL", "k0")
	says("[7] <nil>", "PTTL", "k0")
	says("7 <nil>", "GET", "k0")
	for i, reply := range []string{"7 <nil>", "liar <nil>", "<nil> LIAR no", "[] <nil>", "[a] <nil>", "[1 a []] <nil>", "[a 1 soon] <nil>"} {
		says(reply, "EVAL", claimText, "2", fmt.Sprint("t", i), "counter", "a", "PX", "5000", "0", "0")
	}
	expect(t, l.Server.Do, "a", "GET", "t0")
	says("7 <nil>", "EVAL", extendText, "1", "k0", "a", "PEXPIRE", "5000")
	says("[liar [7]] <nil>", "EVAL", extendText, "1", "k0", "a", "PEXPIRE", "5000")
	expect(t, l.Server.Do, "a", "GET", "k0") // it was carried out
	says("1 <nil>", "EVAL", releaseText, "1", "k0", "a")
	expect(t, l.Server.Do, nil, "GET", "k0")
}

func TestLiarIsHonestAboutTheRest(t *testing.T) {
	t.Parallel()
	for _, lie := range []Lie{Grants, Denies, Forgets, Garbles} {
		l, do := startLiar(t, lie)
		expect(t, do, "OK", "SET", "k", "v", "PX", "50000")
		expect(t, do, "OK", "SET", "wake", "1", "NX", "PX", "50000")
		expect(t, do, nil, "SET", "wake", "1", "NX", "PX", "50000")
		expect(t, do, "v", "SET", "k", "v2", "PX", "50000", "GET") // by force
		expect(t, do, "v2", "EVAL", extendText, "1", "k", "other", "PEXPIRE", "1")
		expect(t, do, int64(0), "EVAL", releaseText, "1", "k", "other")
		expect(t, do, "v2", "GET", "k")
		if ttl, err := do("PTTL", "k"); err != nil || ttl.(int64) <= 40_000 {
			t.Error(lie, ttl, err)
		}
		// What a server can do is found out with a key that nobody has claimed.
		_, err := do("SET", "probe", "a", "IFEQ", "b", "GET", "PX", "1")
		if (err == nil) != setsIfEqual(l.Server.Binary) {
			t.Error(lie, l.Server.Binary, err)
		}
		var e ReplyError
		for _, odd := range [][]string{{"SET", "k"}, {"SET", "k", "a", "NX", "GET", "PX"}, {"PTTL"}, {"EVALSHA", "0", "1"}, {"EVALSHA", "0", "2", "k", "a"}, {"EVALSHA", "0", "x", "k", "a"}} {
			if _, err := do(odd...); !errors.As(err, &e) {
				t.Error(lie, odd, err)
			}
		}
	}
}

// Not parallel: it counts all goroutines.
func TestLiarTalksToTheClientAndLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, lie := range []Lie{Grants, Denies, Forgets, Garbles} {
		l, err := StartLiar(lie)
		must(t, err)
		converse(t, l)
		l.Close()
		l.Close()
	}
	noMoreGoroutines(t, before)
}

// converse claims a lock of a liar as the library does: pipelined, with client-side caching.
func converse(t *testing.T, l *Liar) {
	t.Helper()
	events := make(chan string, 16)
	c, err := valkey.NewClient(valkey.ClientOption{
		InitAddress:           []string{l.Addr()},
		PipelineMultiplex:     -1,
		ClientTrackingOptions: []string{"OPTOUT"},
		OnInvalidations: func(messages []valkey.ValkeyMessage) {
			for i := range messages {
				key, _ := messages[i].ToString()
				events <- key
			}
		},
	})
	must(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	flags, err := c.Do(ctx, c.B().ClientTrackinginfo().Build()).AsMap()
	if f := flags["flags"]; err != nil || !strings.Contains(f.String(), "optout") {
		t.Error(l.lie, f.String(), err)
	}
	replies := c.DoMulti(ctx,
		c.B().Arbitrary("SET").Keys("k").Args("me", "PX", "60000", "NX", "GET").Build(),
		c.B().Pttl().Key("k").Build(),
		c.B().Echo().Message("after").Build(), // the replies are in step
	)
	holder, err := replies[0].ToString()
	ttl, ttlErr := replies[1].AsInt64()
	echo, echoErr := replies[2].ToString()
	got := fmt.Sprintf("%q %v %d %v", holder, valkey.IsValkeyNil(err), ttl, ttlErr == nil)
	want := map[Lie]string{
		Grants: `"" true 60000 true`, Denies: `"liar" false 1000 true`, Forgets: `"" true 60000 true`, Garbles: `"" false 0 false`,
	}[l.lie]
	if got != want || echo != "after" || echoErr != nil {
		t.Errorf("it %v: %s, want %s; %q %v", l.lie, got, want, echo, echoErr)
	}
	if l.lie == Garbles && err == nil {
		t.Error("a reply of another type was read as a string")
	}
	// Events come, from what the server is really told.
	must(t, l.Server.tell("SET", "k", "somebody"))
	select {
	case key := <-events:
		if key != "k" {
			t.Error(l.lie, "an event of", key)
		}
	case <-ctx.Done():
		t.Error(l.lie, "no event")
	}
}
