package fence_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/fence"
)

// The token comes from the lock: lock.Token(), if it was acquired with AcquireOption{Fencing: true}.
func ExampleResource_Do() {
	sell := func(ctx context.Context, client valkey.Client, token int64) error {
		stock := fence.Resource{Client: client, Key: "stock:42"}
		reply, err := stock.Do(ctx, token, "HINCRBY", "amount", "-1") // HINCRBY stock:42 amount -1
		if errors.Is(err, fence.ErrStale) {
			return fmt.Errorf("another has taken over, nothing was sold: %w", err)
		}
		if err != nil {
			return err
		}
		left, err := reply.AsInt64()
		log.Print("left: ", left)
		return err
	}
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{"127.0.0.1:6379"}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := sell(context.Background(), client, time.Now().UnixMicro()); err != nil {
		log.Print(err)
	}
}

// A holder that reads one key and writes another shuts out those before it on both before it reads.
func ExampleResource_Check() {
	_ = func(ctx context.Context, client valkey.Client, token int64) error {
		from := fence.Resource{Client: client, Key: "orders:{42}"}
		to := fence.Resource{Client: client, Key: "invoice:{42}"}
		if err := errors.Join(from.Check(ctx, token), to.Check(ctx, token)); err != nil {
			return err
		}
		orders, err := client.Do(ctx, client.B().Get().Key(from.Key).Build()).ToString()
		if err != nil {
			return err
		}
		_, err = to.Do(ctx, token, "SET", orders)
		return err
	}
}
