package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/internal/lab"
)

const owner = "owner value of some length"

// paths shows what each way of asking costs that the servers at hand offer.
func paths(server *lab.Server) error {
	c, err := valkey.NewClient(client(server.Addr()))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, p := range pathsOf(c) {
		if _, err := repeat(1, p.do); err != nil {
			if strings.Contains(err.Error(), "unknown command") || strings.Contains(err.Error(), "syntax error") {
				fmt.Printf("  %-44s not on this server\n", p.name)
				continue
			}
			return err
		}
		rates, err := race(64, p)
		if err != nil {
			return err
		}
		fmt.Printf("  %-44s %9.0f/s\n", p.name, rates[0])
	}
	return nil
}

// pathsOf are the commands that acquiring, extending and releasing can be made of.
func pathsOf(c valkey.Client) []pair {
	b := c.B
	do := func(commands ...valkey.Completed) (err error) {
		for _, r := range c.DoMulti(background, commands...) {
			if e := r.Error(); e != nil && !valkey.IsValkeyNil(e) {
				err = errors.Join(err, e)
			}
		}
		return err
	}
	set := func(k string) valkey.Completed {
		return b().Set().Key(k).Value(owner).Nx().Get().PxMilliseconds(5000).Build()
	}
	script := valkey.NewLuaScript(`if redis.call("GET",KEYS[1])==ARGV[1] then return redis.call("DEL",KEYS[1]) end return 0`)
	acquire := valkey.NewLuaScript(`local r=redis.call("SET",KEYS[1],ARGV[1],"NX","PX",ARGV[2]) redis.call("GET",KEYS[1]) return r`)
	extend := valkey.NewLuaScript(`local v=redis.call("GET",KEYS[1]) if v==ARGV[1] then redis.call("PEXPIRE",KEYS[1],ARGV[2]) end return {v,redis.call("PTTL",KEYS[1])}`)
	run := func(s *valkey.Lua, k string, args ...string) error {
		err := s.Exec(background, c, []string{k}, args).Error()
		if valkey.IsValkeyNil(err) {
			return nil
		}
		return err
	}
	del := func(k string) error { return do(b().Del().Key(k).Build()) }
	return []pair{
		{name: "acquire SET NX GET, PTTL; DEL", do: func(k string) error {
			return errors.Join(do(set(k), b().Pttl().Key(k).Build()), del(k))
		}},
		{name: "acquire by script; DEL", do: func(k string) error { return errors.Join(run(acquire, k, owner, "5000"), del(k)) }},
		{name: "SET NX; release DELIFEQ", do: func(k string) error {
			return errors.Join(do(set(k)), do(b().Delifeq().Key(k).Value(owner).Build()))
		}},
		{name: "SET NX; release DELEX IFEQ", do: func(k string) error {
			return errors.Join(do(set(k)), do(b().Delex().Key(k).Ifeq(owner).Build()))
		}},
		{name: "SET NX; release by script", do: func(k string) error { return errors.Join(do(set(k)), run(script, k, owner)) }},
		{name: "extend SET IFEQ GET, PTTL", do: func(k string) error {
			return do(b().Set().Key(k).Value(owner).Ifeq(owner).Get().PxMilliseconds(5000).Build(), b().Pttl().Key(k).Build())
		}},
		{name: "extend by script", do: func(k string) error { return run(extend, k, owner, "5000") }},
	}
}
