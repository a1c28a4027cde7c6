// Runs the Worker in Node, as Cloudflare's runtime would: requests with an environment and a context whose
// `waitUntil` takes what goes on after the response.
//
//     cargo build --package workers --target wasm32-unknown-unknown
//     wasm-bindgen --target nodejs --out-dir target/workers target/wasm32-unknown-unknown/debug/workers.wasm
//     WORKER=target/workers/workers.js node --test examples/workers/worker.test.mjs

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { after, before, test } from 'node:test';

const worker = createRequire(import.meta.url)(resolve(process.env.WORKER));

// The platform, which answers when it is told to.
const clicks = [];
const platform = createServer((request, response) => {
    let key = '';
    request.on('data', (part) => { key += part; });
    request.on('end', () => clicks.push({ key, answer: (id) => response.end(id) }));
});
let env;
before(async () => {
    await new Promise((listening) => platform.listen(0, '127.0.0.1', listening));
    env = {
        REFERRAL_KEY: 'test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=',
        PLATFORM: `http://127.0.0.1:${platform.address().port}/click`,
    };
});
after(() => {
    platform.closeAllConnections();
    platform.close();
});

const visitor = {
    'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    'sec-fetch-site': 'cross-site',
    'sec-fetch-mode': 'navigate',
    'sec-fetch-dest': 'document',
};

// Sends a request. Returns the response and what goes on after it.
async function send(path, { headers = visitor, ...init } = {}) {
    const tasks = [];
    const context = { waitUntil: (task) => tasks.push(task), passThroughOnException() {}, props: {} };
    const request = new Request(`https://shop.example${path}`, { headers, ...init });
    const response = await worker.fetch(request, env, context);
    return { response, tasks };
}

const cookie = (response) => {
    const lines = response.headers.getSetCookie();
    assert.equal(lines.length, 1);
    assert.match(lines[0], /^__Host-referral=[\w-]+; Path=\/; HttpOnly; SameSite=Lax; Secure; Max-Age=2592000$/);
    return lines[0].split(';')[0];
};

const called = async (count) => {
    while (clicks.length < count) {
        await new Promise((turn) => setImmediate(turn));
    }
    return clicks[count - 1];
};

const signUp = async (cookie) => {
    const { response } = await send('/signup', { method: 'POST', headers: { ...visitor, cookie } });
    return response.text();
};

test('a request with nothing of the layer passes', async () => {
    const { response, tasks } = await send('/');
    assert.equal(await response.text(), 'Hello');
    assert.deepEqual(response.headers.getSetCookie(), []);
    assert.equal(tasks.length, 0);
});

test('a landing is captured and kept, and its click goes on after the response', async () => {
    const { response, tasks } = await send('/?aff=PARTNER_123');
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('cache-control'), 'private, no-cache');
    const held = cookie(response);
    assert.equal(await signUp(held), 'PARTNER_123 sent you, click none yet.');

    assert.equal(tasks.length, 1);
    const click = await called(1);
    assert.equal(click.key, 'PARTNER_123');
    click.answer('clk_1');
    await tasks[0];
    assert.equal(await signUp(held), 'PARTNER_123 sent you, click clk_1.');
});

test('a platform that hangs is given up after the timeout, by the timer that was given', async () => {
    const { response, tasks } = await send('/?aff=HANGS');
    const click = await called(2);
    assert.equal(click.key, 'HANGS');
    await tasks[0];
    click.answer('too_late');
    assert.equal(await signUp(cookie(response)), 'HANGS sent you, click none yet.');
});

test('the endpoint serves its script and captures what it posts', async () => {
    const script = await send('/api/track-landing');
    assert.match(await script.response.text(), /_referrer/);
    const headers = {
        ...visitor,
        'sec-fetch-site': 'same-origin',
        'sec-fetch-mode': 'cors',
        'sec-fetch-dest': 'empty',
        'content-type': 'application/x-www-form-urlencoded',
    };
    const { response, tasks } = await send('/api/track-landing', { method: 'POST', headers, body: 'aff=FRIEND&_path=/' });
    assert.equal(response.status, 204);
    (await called(3)).answer('clk_3');
    await Promise.all(tasks);
    assert.equal(await signUp(cookie(response)), 'FRIEND sent you, click clk_3.');
});

test('a forged cookie is no referral', async () => {
    assert.equal(await signUp('__Host-referral=forged'), 'Welcome.');
});
