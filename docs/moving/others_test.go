package moving

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/fence"
)

// The Go of the project's other pages is compiled here as well.

func TestWhatTheOtherPagesShowIsCompiled(t *testing.T) {
	all, _ := code(t)
	all += flat(read(t, "../../example_test.go"))
	for _, page := range []string{"../../README.md", "../fencing.md", "../replicas.md"} {
		blocks := 0
		for _, shown := range block.FindAllStringSubmatch(read(t, page), -1) {
			if shown[1] != "go" {
				continue
			}
			blocks++
			if !strings.Contains(all, flat(shown[2])) {
				t.Errorf("%s: this is not compiled:\n%s", page, shown[2])
			}
		}
		if blocks == 0 {
			t.Errorf("%s shows no Go", page)
		}
	}
}

func pay(ctx context.Context) error { return ctx.Err() }

func readmeHandle(ctx context.Context, locker ctxlock.Locker) error {
	ctx, lock, err := locker.Acquire(ctx, "invoice/4711", ctxlock.AcquireOption{
		Metadata: "batch 12",
		Fencing:  true,
		Retry:    ctxlock.LimitRetries(5, ctxlock.RetryExponential(50*time.Millisecond, time.Second)),
	})
	if err != nil {
		return err
	}
	defer lock.Release(context.Background()) // tells: released, lost before, released before, or servers not told
	return pay(ctx)
}

func fencingToken(ctx context.Context, locker ctxlock.Locker, name string) error {
	ctx, lock, err := locker.Acquire(ctx, name, ctxlock.AcquireOption{Fencing: true})
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	// lock.Token() goes with every write, ctx with every call
	return pay(ctx)
}

func fencedStock(ctx context.Context, lock *ctxlock.Lock, client valkey.Client) error {
	stock := fence.Resource{Client: client, Key: "stock:42"}
	_, err := stock.Do(ctx, lock.Token(), "HSET", "amount", "17") // HSET stock:42 amount 17
	if errors.Is(err, fence.ErrStale) {
		// another has held the lock since, and has been here: nothing was written
	}
	return err
}

var errStale = errors.New("another has held the lock since")

func fencedRow(ctx context.Context, db *sql.DB, lock *ctxlock.Lock, id int64, state string) error {
	result, err := db.ExecContext(ctx, `UPDATE invoice SET state = $3, token = $2 WHERE id = $1 AND token <= $2`, id, lock.Token(), state)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, errStale) // nothing was written
	}
	return nil
}

func replicated(ctx context.Context, locker ctxlock.Locker) error {
	ctx, lock, err := locker.Acquire(ctx, "invoice/4711", ctxlock.AcquireOption{Replicas: 1})
	if err != nil {
		return err
	}
	defer lock.Release(context.Background())
	return pay(ctx)
}

var _ = []any{readmeHandle, fencingToken, fencedStock, fencedRow, replicated}
