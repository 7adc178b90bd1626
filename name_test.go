package ctxlock_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
)

// FuzzName takes any name from one process, is refused it in another, and hands it over.
func FuzzName(f *testing.F) {
	for _, name := range []string{"", "x", "a:b", "0:x", "w:x", "W:{valkeylock:0:x}", "{a}b", "a{b", "}", "\x00", "\xff\xfe", "%s", " ",
		strings.Repeat("n", 64<<10), strings.Repeat("n", 64<<10+1)} {
		f.Add("", name)
		f.Add("a:b", name)
		f.Add("{", name)
	}
	f.Fuzz(func(t *testing.T, prefix, name string) {
		var server memlock.Server
		var lockers [2]ctxlock.Locker
		for i := range lockers {
			l, err := server.NewLocker(ctxlock.LockerOption{KeyPrefix: prefix})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			lockers[i] = l
		}
		here, there := lockers[0], lockers[1]
		allowed := name != "" && len(name) <= 64<<10

		ctx, cancel, err := here.TryWithContext(t.Context(), name)
		defer cancel()
		if (err == nil) != allowed {
			t.Fatalf("%q: allowed %t, and yet %v", name, allowed, err)
		}
		if !allowed {
			if ctx.Err() == nil || errors.Is(err, ctxlock.ErrNotLocked) {
				t.Fatalf("%q: refused by %v with %v", name, err, ctx.Err())
			}
			return
		}
		if _, _, err := there.TryWithContext(t.Context(), name); !errors.Is(err, ctxlock.ErrNotLocked) {
			t.Fatalf("%q: held twice: %v", name, err)
		}
		in := make(chan error, 1)
		go func() {
			_, cancel, err := there.WithContext(t.Context(), name)
			cancel()
			in <- err
		}()
		if ctx.Err() != nil {
			t.Fatalf("%q: ended by %v", name, ctx.Err())
		}
		cancel()
		if err := <-in; err != nil {
			t.Fatalf("%q: not handed over: %v", name, err)
		}
		if _, release, err := here.WithContext(t.Context(), name); err != nil {
			t.Fatalf("%q: not free again: %v", name, err)
		} else {
			release()
		}
	})
}
