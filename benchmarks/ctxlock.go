package main

import (
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
)

const ctxlockModule = "github.com/ctxlock/ctxlock"

// openCtxlock is the one place where a ctxlock Locker is made of options.
func openCtxlock(option ctxlock.LockerOption, contention ctxlock.Contention) (ctxlock.Locker, error) {
	return ctxlock.New(ctxlock.Options{LockerOption: option, Contention: contention})
}

func ours(n int32) Contender {
	return oursWith(n, majority(n), "defaults otherwise", ctxlock.Contention{})
}

// oursFromMemory has failing tries answered without asking a server.
func oursFromMemory() Contender {
	return oursWith(1, "from memory", "TryFromMemory", ctxlock.Contention{TryFromMemory: true})
}

// oursWithoutQueue shows what the queue does.
func oursWithoutQueue() Contender {
	return oursWith(1, "no queue", "NoQueue", ctxlock.Contention{NoQueue: true})
}

func oursWith(n int32, setup, note string, contention ctxlock.Contention) Contender {
	return Contender{
		Library: "ctxlock", Setup: setup, Module: ctxlockModule, Extends: true, Note: "NoLoopTracking, " + note,
		Open: func(at site) (Locker, error) {
			l, err := openCtxlock(ctxlock.LockerOption{
				KeyMajority: n, NoLoopTracking: true, KeyPrefix: "ours", KeyValidity: at.validity, ExtendInterval: at.interval,
				ClientOption: client(at.valkey[0]),
			}, contention)
			if err != nil {
				return nil, err
			}
			return dropInLocker{l, ctxlock.ErrNotLocked}, nil
		},
	}
}

// oursOnNodes is the counterpart of redsync on independent servers.
func oursOnNodes() Contender {
	return Contender{
		Library: "ctxlock", Setup: "3 servers", Module: ctxlockModule, Extends: true,
		Note:       "NewRedlock on three independent servers, NoLoopTracking",
		AllServers: true, Open: openRedlock,
	}
}

func openRedlock(at site) (Locker, error) {
	var nodes []valkey.ClientOption
	for _, address := range at.valkey {
		nodes = append(nodes, client(address))
	}
	l, err := ctxlock.NewRedlock(ctxlock.RedlockOption{
		Nodes:        nodes,
		LockerOption: ctxlock.LockerOption{NoLoopTracking: true, KeyPrefix: "ours3", KeyValidity: at.validity, ExtendInterval: at.interval},
	})
	if err != nil {
		return nil, err
	}
	return dropInLocker{l, ctxlock.ErrNotLocked}, nil
}

// client has small buffers, so that 512 processes' worth of clients fit into one: valkey-go would give each a megabyte. Nothing here
// sends as much at once.
func client(address string) valkey.ClientOption {
	return valkey.ClientOption{
		InitAddress: []string{address}, ReadBufferEachConn: 32 << 10, WriteBufferEachConn: 32 << 10,
		Dialer: dialer(),
	}
}

// patience is enough for 512 clients that connect at once, ten milliseconds away, on a machine that has better to do.
const patience = 20 * time.Second
