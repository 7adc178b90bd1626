package ctxlock

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// FuzzParseKey checks that a key is taken apart into what it was made of, and that no other key is accepted.
func FuzzParseKey(f *testing.F) {
	for _, prefix := range []string{"valkeylock", "", "a:b", "{p}", "p{", "p}", ":", "W", "w", "0"} {
		for _, name := range []string{"x", "a:b", "0:x", "w:x", "W:x", "{a}b", "a{b", "a}b", "{", "}", "\x00\xff", ":", "W:{valkeylock:0:x}"} {
			for i := range 3 {
				f.Add(prefix, name, i, keyOf(prefix, i, name), 3)
			}
			f.Add(prefix, name, 0, wakeKeyOf(prefix, name), 1)
		}
		for _, key := range []string{"", ":", "::", ":0", ":0:", ":w", ":w:", ":W:", ":W:{}", ":W:{" + prefix + ":0:}", ":-1:x", ":00:x", ":0x:x", ":+0:x", ":99:x",
			":3:x", ":W:{{" + prefix + ":0:x}}", ":w:{x}", ":W:{" + prefix + ":0:{x}}", ":9223372036854775808:x", ":W:x",
			":W:{" + prefix + ":0:x", ":W:{" + prefix + ":1:x}"} {
			f.Add(prefix, "x", 0, prefix+key, 3)
		}
		f.Add(prefix, "x", 0, prefix, 2047)
	}
	f.Fuzz(func(t *testing.T, prefix, name string, i int, key string, keys int) {
		if keys < 1 || keys > 2*mostMajority-1 {
			return
		}
		if gotName, gotI, wake, ok := parseKey(prefix, key, keys); ok {
			switch {
			case gotName == "":
				t.Fatalf("%q: accepted with an empty name", key)
			case wake && wakeKeyOf(prefix, gotName) != key:
				t.Fatalf("%q: accepted as the wake key of %q, which is %q", key, gotName, wakeKeyOf(prefix, gotName))
			case !wake && keyOf(prefix, gotI, gotName) != key:
				t.Fatalf("%q: accepted as key %d of %q, which is %q", key, gotI, gotName, keyOf(prefix, gotI, gotName))
			case gotI < 0 || gotI >= keys:
				t.Fatalf("%q: accepted as key %d of %d", key, gotI, keys)
			}
		}
		if name == "" || i < 0 || i >= keys {
			return
		}
		if gotName, gotI, wake, ok := parseKey(prefix, keyOf(prefix, i, name), keys); !ok || wake || gotName != name || gotI != i {
			t.Fatalf("key %d of %q under %q: parsed as key %d of %q, wake %t, ok %t", i, name, prefix, gotI, gotName, wake, ok)
		}
		if gotName, _, wake, ok := parseKey(prefix, wakeKeyOf(prefix, name), keys); !ok || !wake || gotName != name {
			t.Fatalf("wake key of %q under %q: parsed as that of %q, wake %t, ok %t", name, prefix, gotName, wake, ok)
		}
		if !strings.ContainsAny(prefix+name, "{}") && slotOf(wakeKeyOf(prefix, name)) != slotOf(keyOf(prefix, 0, name)) {
			t.Fatalf("the wake key of %q under %q is in another slot than key 0", name, prefix)
		}
	})
}

// tape is what a fuzzer makes answers from, byte by byte.
type tape struct{ left []byte }

func (p *tape) byte() byte {
	if len(p.left) == 0 {
		return 0
	}
	b := p.left[0]
	p.left = p.left[1:]
	return b
}

func (p *tape) bytes(n int) []byte {
	n = min(n, len(p.left))
	b := p.left[:n]
	p.left = p.left[n:]
	return b
}

const testOwner = ownerMark + "fuzz/1"

// telling are texts that mean something to those who read answers.
var telling = []string{"OK", "", testOwner, "somebody else", "-1", "-2", "0", "1000", "9223372036854775807",
	"-9223372036854775808", "92233720368547758070", "ERR syntax error", "ERR unknown command 'SET'", "NOSCRIPT No matching script.", "LOADING", "OOM x",
	"WRONGTYPE x", "MOVED 1 127.0.0.1:1", "ASK", " ", "on", "optout"}

// message makes a value of RESP, of any type, that goes to depth levels at the most.
func (p *tape) message(depth int) (m valkey.ValkeyMessage) {
	if err := m.CacheUnmarshalView(p.encode(make([]byte, 7), depth)); err != nil {
		panic(err) // the encoding is the client's own
	}
	return m
}

// encode writes such a value in the form in which the client keeps values in its cache.
func (p *tape) encode(to []byte, depth int) []byte {
	const types = "$+-:_.,#!=(*%~>|"
	kind := types[int(p.byte())%len(types)]
	to = append(to, kind)
	size := func(n uint64) { to = binary.BigEndian.AppendUint64(to, n) }
	switch kind {
	case ':':
		if choice := p.byte(); choice < 200 {
			size(uint64(int64(choice) - 3))
		} else {
			var n [8]byte
			copy(n[:], p.bytes(8))
			size(binary.BigEndian.Uint64(n[:]))
		}
	case '_', '#':
		size(uint64(p.byte() % 2))
	case '*', '%', '~':
		n := int(p.byte() % 5)
		if depth == 0 {
			n = 0
		}
		size(uint64(n))
		for range n {
			to = p.encode(to, depth-1)
		}
	default:
		var text []byte
		if choice := int(p.byte()); choice < 200 {
			text = []byte(telling[choice%len(telling)])
		} else {
			text = p.bytes(choice - 200)
		}
		size(uint64(len(text)))
		to = append(to, text...)
	}
	return to
}

// result makes what the client gives for a command: a value, or an error.
func (p *tape) result() valkey.ValkeyResult {
	switch p.byte() {
	case 255:
		return valkey.NewErrorResult(io.EOF)
	case 254:
		return valkey.NewErrorResult(context.DeadlineExceeded)
	case 253:
		return valkey.NewErrorResult(valkey.ErrClosing)
	case 252:
		return valkey.NewErrorResult(errors.Join(errUnsent, io.EOF))
	}
	return valkey.NewResult(p.message(3), nil)
}

func (p *tape) results(n int) []valkey.ValkeyResult {
	results := make([]valkey.ValkeyResult, n)
	for i := range results {
		results[i] = p.result()
	}
	return results
}

// FuzzAnswers has a mad server answer, and checks that nobody panics, and that nobody believes to have what the server did not say.
func FuzzAnswers(f *testing.F) {
	for mode := range byte(8) {
		f.Add(mode, []byte{})
		for i := range byte(16) {
			f.Add(mode, []byte{0, i, i, 0, 3, 0, 0, i, 2, 0, i, 2 * i, 1, 1, 0, 3, 0, 3, 255})
		}
	}
	for j := range byte(len(telling)) {
		f.Add(64+j%8, []byte{0, 0, j, 0, 3, j, 0, 2, j, 0, 0, j})
		f.Add(128+j%8, []byte{0, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255 - j, 0, j})
	}
	f.Fuzz(func(t *testing.T, mode byte, data []byte) {
		p := &tape{data}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if mode&64 != 0 {
			cancel()
		}
		results := p.results(8)
		answers := func() *answers { return &answers{ctx: ctx, results: slices.Clone(results)} }
		op := func() *store.Op {
			// What was there before must not shine through.
			return &store.Op{Key: "k", Owner: testOwner, Validity: time.Second, Answer: store.Answer{Holder: testOwner,
				TTL: time.Hour, WakeTTL: time.Hour, Token: 1, Waiting: 1, Found: true, Unknown: true, Err: io.EOF}}
		}
		said := func(text string) func(valkey.ValkeyResult) bool {
			return func(r valkey.ValkeyResult) bool {
				s, err := r.ToString()
				return err == nil && s == text
			}
		}

		claimed := op()
		if claimed.Force = mode&1 != 0; mode&2 != 0 {
			claimed.Wake = "w"
		}
		setGet := mode&4 != 0
		set := answers().claim(claimed, setGet)
		sane(t, claimed)
		relevant := results[:5]
		yes := slices.ContainsFunc(relevant, func(r valkey.ValkeyResult) bool { return valkey.IsValkeyNil(r.Error()) }) ||
			slices.ContainsFunc(relevant, said("OK")) || slices.ContainsFunc(relevant, said(testOwner))
		if claimed.Err == nil && claimed.Holder == testOwner && !claimed.Force && !yes {
			t.Fatalf("claimed, though the server said nothing of the kind: %v", relevant)
		}
		if set && (claimed.Err != nil || claimed.Holder != testOwner && claimed.Holder != "") {
			t.Fatalf("set, and yet %+v", claimed)
		}

		extended := op()
		answers().extend(extended)
		sane(t, extended)
		if extended.Err == nil && extended.Holder == testOwner && !said(testOwner)(results[0]) {
			t.Fatalf("extended, though the server said %v", results[0])
		}

		released := op()
		released.Wake = claimed.Wake
		answers().release(released)
		sane(t, released)

		looked := op()
		answers().look(looked)
		sane(t, looked)

		fenced := op()
		fenced.Counter = "c"
		if answers().claim(fenced, setGet) && (fenced.Holder != testOwner && fenced.Holder != "") {
			t.Fatalf("set, and yet %+v", fenced)
		}
		sane(t, fenced)
		if fenced.Err == nil && fenced.Holder == testOwner && fenced.Token <= 0 {
			t.Fatalf("claimed without a token: %+v", fenced)
		}

		counted := op()
		answers().number(counted)
		sane(t, counted)

		for _, o := range []*store.Op{claimed, extended, released, looked, fenced, counted} {
			_ = unknownCommand(o.Err)
			_ = unknownScript(o.Err)
		}

		s := &valkeyStore{start: time.Now()}
		s.observeTime(lifetime{sent: 0, validity: time.Second}, results[0])
		s.observe(lifetime{at: 1, validity: time.Second}, extended)
		s.clock.deadline(s.now(), time.Second)

		k := &locker{prefix: "valkeylock", majority: 2}
		tracker := tracker{lost: func() {}}
		events := k.onEvent
		tracker.events.Store(&events)
		messages := []valkey.ValkeyMessage{p.message(2), p.message(2)}
		if mode&128 != 0 {
			messages = nil
		}
		tracker.onInvalidations(messages)
	})
}

// sane checks that what was made of an answer has one of the forms that the engine knows.
func sane(t *testing.T, op *store.Op) {
	t.Helper()
	switch {
	case op.Unknown && op.Err == nil:
		t.Fatalf("unknown without an error: %+v", op)
	case op.Err == nil && (op.TTL < 0 || op.WakeTTL < 0):
		t.Fatalf("a TTL below zero: %+v", op)
	case op.Err == nil && op.Holder != "" && op.TTL == time.Hour && op.WakeTTL == time.Hour:
		t.Fatalf("nothing was read: %+v", op)
	}
}
