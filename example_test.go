package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
)

func ExampleNewLocker() {
	work := func(ctx context.Context) error {
		locker, err := ctxlock.NewLocker(ctxlock.LockerOption{
			ClientOption: valkey.ClientOption{InitAddress: []string{"127.0.0.1:6379"}},
			KeyMajority:  1, // enough for one server; the default is valkeylock's, 2
		})
		if err != nil {
			return err
		}
		defer locker.Close()

		ctx, cancel, err := locker.WithContext(ctx, "invoice/4711") // waits; TryWithContext does not
		if err != nil {
			return err
		}
		defer cancel()
		return pay(ctx) // ctx ends before anybody else can hold "invoice/4711"
	}
	if err := work(context.Background()); err != nil {
		log.Print(err)
	}
}

func pay(ctx context.Context) error { return ctx.Err() }

// A job that must run once: whoever does not get the lock leaves it to the one who did.
func ExampleLocker_tryWithContext() {
	var server memlock.Server // in place of Valkey, so that this example runs anywhere
	here, _ := server.NewLocker(ctxlock.LockerOption{})
	defer here.Close()
	there, _ := server.NewLocker(ctxlock.LockerOption{})
	defer there.Close()

	_, cancel, err := here.TryWithContext(context.Background(), "nightly report")
	defer cancel() // never nil
	fmt.Println("here:", err)

	_, _, err = there.TryWithContext(context.Background(), "nightly report")
	fmt.Println("there:", errors.Is(err, ctxlock.ErrNotLocked))
	// Output:
	// here: <nil>
	// there: true
}

// A lock that was lost says how.
func ExampleLostError() {
	var server memlock.Server
	leader, _ := server.NewLocker(ctxlock.LockerOption{})
	defer leader.Close()
	rival, _ := server.NewLocker(ctxlock.LockerOption{})
	defer rival.Close()

	ctx, cancel, _ := leader.WithContext(context.Background(), "leader")
	defer cancel()
	_, stop, _ := rival.ForceWithContext(context.Background(), "leader")
	defer stop()

	<-ctx.Done()
	var lost *ctxlock.LostError
	if errors.As(context.Cause(ctx), &lost) {
		fmt.Println(lost.Name, lost.Reason)
	}
	// Output: leader taken
}

// A wait that ends with its context says what it was waiting for.
func ExampleLocker_withContext() {
	var server memlock.Server
	here, _ := server.NewLocker(ctxlock.LockerOption{})
	defer here.Close()
	_, cancel, _ := here.WithContext(context.Background(), "backup")
	defer cancel()

	there, _ := server.NewLocker(ctxlock.LockerOption{})
	defer there.Close()
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	_, _, err := there.WithContext(ctx, "backup")
	fmt.Println(errors.Is(err, context.DeadlineExceeded), errors.Is(err, ctxlock.ErrNotLocked))
	// Output: true true
}
