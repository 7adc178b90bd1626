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
		return pay(ctx) // ctx ends before another can hold "invoice/4711": see Guarantee
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

// A handle in place of the cancel function, with a fencing token for the resource to check.
func ExampleLocker_acquire() {
	locker, _ := memlock.New(ctxlock.LockerOption{})
	defer locker.Close()

	ctx, lock, err := locker.Acquire(context.Background(), "invoice/4711", ctxlock.AcquireOption{
		Metadata: "batch 12",
		Fencing:  true,
		Retry:    ctxlock.LimitRetries(5, ctxlock.RetryExponential(50*time.Millisecond, time.Second)),
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer lock.Release(context.Background()) // also when ctx has ended; see Lock.Release for what comes back

	fmt.Println(lock.Name(), lock.Metadata(), lock.Valid(), lock.Token() > 0, ctx.Err())
	// Output: invoice/4711 batch 12 true true <nil>
}

// Two accounts are locked together, whatever order callers name them in.
func ExampleLocker_acquireAll() {
	locker, _ := memlock.New(ctxlock.LockerOption{})
	defer locker.Close()

	ctx, both, err := locker.AcquireAll(context.Background(), []string{"account/7", "account/3"}, ctxlock.AcquireOption{})
	if err != nil {
		log.Print(err)
		return
	}
	defer both.Release(context.Background())
	for _, lock := range both.Each() {
		fmt.Println(lock.Name())
	}
	fmt.Println(ctx.Err())
	// Output:
	// account/7
	// account/3
	// <nil>
}

// A lock on three servers that do not know of each other: it stands while two of them stand by it.
func ExampleNewRedlock() {
	work := func(ctx context.Context) error {
		locker, err := ctxlock.NewRedlock(ctxlock.RedlockOption{
			Nodes: []valkey.ClientOption{
				{InitAddress: []string{"10.0.0.1:6379"}},
				{InitAddress: []string{"10.0.0.2:6379"}},
				{InitAddress: []string{"10.0.0.3:6379"}},
			},
			DelayedRestart: true,
		})
		if err != nil {
			return err
		}
		defer locker.Close()
		ctx, cancel, err := locker.WithContext(ctx, "invoice/4711")
		if err != nil {
			return err
		}
		defer cancel()
		return pay(ctx)
	}
	_ = work
}

// Who holds what.
func ExampleLocker_list() {
	locker, _ := memlock.New(ctxlock.LockerOption{})
	defer locker.Close()
	_, lock, _ := locker.Acquire(context.Background(), "nightly report", ctxlock.AcquireOption{Metadata: "host 7"})
	defer lock.Release(context.Background())

	for status, err := range locker.List(context.Background()) {
		if err != nil {
			log.Print(err)
			break
		}
		fmt.Println(status.Name, status.Metadata, status.Waiting)
	}
	// Output: nightly report host 7 0
}
