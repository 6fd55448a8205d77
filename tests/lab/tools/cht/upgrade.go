// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// build is a version as the builds server names it.
type build struct {
	Namespace   string `json:"namespace"`
	Application string `json:"application"`
	Version     string `json:"version"`
}

func (b build) valid() bool { return b.Namespace != "" && b.Application != "" && b.Version != "" }

// upgradeLog is the document that tells how far an upgrade is.
type upgradeLog struct {
	ID      string           `json:"_id"`
	Rev     string           `json:"_rev,omitempty"`
	User    string           `json:"user"`
	Action  string           `json:"action"`
	From    build            `json:"from"`
	To      build            `json:"to"`
	Start   int64            `json:"start_date"`
	Updated int64            `json:"updated_date"`
	State   string           `json:"state"`
	History []map[string]any `json:"state_history"`
}

func (u upgradeLog) final() bool {
	return u.State == "finalized" || u.State == "aborted" || u.State == "errored"
}

// upgrade is what API does to get to another version while it goes on answering.
type upgrade struct {
	api      *api
	mutex    sync.Mutex
	indexed  atomic.Int64
	indexing atomic.Bool
	stopped  atomic.Int64
}

func (u *upgrade) path() string { return "/" + u.api.database + "-logs" }

// current is the last upgrade, unless it came to an end.
func (u *upgrade) current() *upgradeLog {
	var found struct {
		Rows []struct {
			Doc upgradeLog `json:"doc"`
		} `json:"rows"`
	}
	if status, err := u.api.ask(http.MethodGet, u.path()+"/_all_docs?include_docs=true", nil, &found); err != nil || status != 200 {
		return nil
	}
	var last *upgradeLog
	for _, row := range found.Rows {
		if strings.HasPrefix(row.Doc.ID, "upgrade_log:") && (last == nil || row.Doc.Start > last.Start) {
			last = &row.Doc
		}
	}
	if last == nil || last.final() {
		return nil
	}
	return last
}

func (u *upgrade) keep(log *upgradeLog, state string) {
	now := time.Now().UnixMilli()
	log.State, log.Updated = state, now
	log.History = append(log.History, map[string]any{"state": state, "date": now})
	if status, err := u.api.ask(http.MethodPut, u.path()+"/"+log.ID, log, nil); err != nil || status != 201 {
		say("the upgrade's state can't be kept (%d)", status)
	}
}

func (u *upgrade) set(state string) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if log := u.current(); log != nil && log.State != state {
		u.keep(log, state)
	}
}

func (u *upgrade) serve(w http.ResponseWriter, r *http.Request, path, user string) {
	switch r.Method + " " + path {
	case "GET /api/v2/upgrade":
		answer(w, 200, map[string]any{"upgradeDoc": u.current(), "indexers": u.indexers()})
	case "GET /api/v2/upgrade/can-upgrade":
		answer(w, 200, map[string]bool{"ok": os.Getenv("UPGRADE_SERVICE_URL") != ""})
	case "DELETE /api/v2/upgrade":
		u.stopped.Add(1)
		u.set("aborting")
		_ = u.api.unstage()
		u.set("aborted")
		answer(w, 200, map[string]bool{"ok": true})
	case "POST /api/v1/upgrade", "POST /api/v1/upgrade/stage", "POST /api/v1/upgrade/complete":
		var asked struct {
			Build build `json:"build"`
		}
		if !read(r.Body, &asked) || !asked.Build.valid() {
			answer(w, 400, map[string]any{"code": 400, "error": "You must provide a build info body"})
			return
		}
		u.begin(w, path, asked.Build, user)
	default:
		answer(w, 404, map[string]any{"code": 404, "error": "Not found"})
	}
}

func (u *upgrade) begin(w http.ResponseWriter, path string, wanted build, user string) {
	if path == "/api/v1/upgrade/complete" {
		if err := u.complete(wanted); err != nil {
			u.set("errored")
			answer(w, 500, map[string]any{"code": 500, "error": err.Error()})
			return
		}
		answer(w, 200, map[string]bool{"ok": true})
		return
	}
	action := map[bool]string{true: "stage", false: "upgrade"}[strings.HasSuffix(path, "/stage")]
	u.set("aborted")
	now := time.Now().UnixMilli()
	from := build{"medic", "medic", u.api.version}
	log := &upgradeLog{ID: fmt.Sprintf("upgrade_log:%d:%s", now, wanted.Version), User: user, Action: action, From: from, To: wanted, Start: now}
	u.keep(log, "initiated")
	go u.install(wanted, action, u.stopped.Add(1))
	answer(w, 200, map[string]bool{"ok": true})
}

// install stages and indexes beside the work of the users.
func (u *upgrade) install(wanted build, action string, number int64) {
	_, err := u.published(wanted)
	if err == nil {
		took(apiInstalls)
		err = u.api.stage(wanted.Version)
	}
	if err != nil {
		say("Error thrown while installing: %s", err)
		u.set("errored")
		return
	}
	u.set("staged")
	u.set("indexing")
	u.indexed.Store(0)
	u.indexing.Store(true)
	defer u.indexing.Store(false)
	for percent := range int64(100) {
		took(apiIndexes / 100)
		if u.stopped.Load() != number {
			return
		}
		u.indexed.Store(percent + 1)
	}
	u.set("indexed")
	if action == "upgrade" {
		if err := u.complete(wanted); err != nil {
			say("Error thrown while installing: %s", err)
			u.set("errored")
		}
	}
}

func (u *upgrade) indexers() []any {
	if !u.indexing.Load() {
		return []any{}
	}
	progress := u.indexed.Load()
	result := []any{}
	for _, name := range []string{"medic", "medic-client"} {
		result = append(result, map[string]any{"database": u.api.database, "ddoc": name, "progress": progress, "tasks": map[string]int64{"stub-1": progress}})
	}
	return result
}

// published is what the builds server has of a version.
func (u *upgrade) published(wanted build) ([]map[string]string, error) {
	address := fmt.Sprintf("%s/%s:%s:%s?attachments=true", strings.TrimSuffix(os.Getenv("BUILDS_URL"), "/"), wanted.Namespace, wanted.Application, wanted.Version)
	response, err := (&http.Client{Timeout: 30 * time.Second}).Get(address)
	if err != nil {
		return nil, fmt.Errorf("the builds server can't be reached: %w", err)
	}
	defer response.Body.Close()
	var found struct {
		Tags []map[string]string `json:"tags"`
	}
	if response.StatusCode != 200 || !read(response.Body, &found) {
		return nil, fmt.Errorf("the builds server answers %d for %s", response.StatusCode, wanted.Version)
	}
	return found.Tags, nil
}

// complete lets the upgrade service set the images that the builds server names.
func (u *upgrade) complete(wanted build) error {
	u.set("completing")
	tags, err := u.published(wanted)
	if err != nil {
		return err
	}
	containers := []map[string]string{}
	for _, tag := range tags {
		containers = append(containers, map[string]string{"container_name": tag["container_name"], "image_tag": tag["image"]})
	}
	data, _ := json.Marshal(map[string]any{"containers": containers, "docker_compose": map[string]string{}})
	address := strings.TrimSuffix(os.Getenv("UPGRADE_SERVICE_URL"), "/") + "/upgrade"
	response, err := http.Post(address, "application/json", bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != 200 {
		return fmt.Errorf("the upgrade service answers %d: %s", response.StatusCode, text)
	}
	return nil
}
