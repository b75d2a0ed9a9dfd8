// Zigbee2MQTT needs a radio: this one answers every frame to a device, unless the file UNREACHABLE names the device.
// Loaded with `node --require`; all of Zigbee2MQTT and of its Zigbee stack above the radio's driver is the real one.
"use strict";

const fs = require("node:fs");
const {createRequire} = require("node:module");

const stack = createRequire(require.resolve(process.env.ZIGBEE_HERDSMAN));
const {Adapter} = stack("./adapter/adapter.js");

class FakeRadio extends Adapter {
    async start() {
        return "resumed";
    }
    async stop() {}
    async getCoordinatorIEEE() {
        return "0x00124b0000000001";
    }
    async getCoordinatorVersion() {
        return {type: "fake", meta: {}};
    }
    async reset() {}
    async supportsBackup() {
        return false;
    }
    async getNetworkParameters() {
        return {panID: 0x1a62, extendedPanID: "0xdddddddddddddddd", channel: 11, nwkUpdateID: 0};
    }
    async addInstallCode() {}
    async permitJoin() {}
    async setChannelInterPAN() {}
    async restoreChannelInterPAN() {}
    async sendZclFrameToGroup() {}
    async sendZclFrameToAll() {}
    waitFor() {
        return {promise: new Promise(() => {}), cancel() {}};
    }
    async sendZdo() {
        throw new Error("no ZDO here");
    }
    async sendZclFrameToEndpoint(ieeeAddr, networkAddress, endpoint, frame) {
        if (fs.readFileSync(process.env.UNREACHABLE, "utf8").includes(ieeeAddr)) {
            throw new Error("the device does not answer");
        }
        const {Frame, FrameType, Direction} = stack("./zspec/zcl/index.js");
        if (frame.header.commandIdentifier !== 0) return undefined;
        const values = frame.payload.map(({attrId}) => ({attrId, status: 0, dataType: 32, attrData: 3}));
        const answer = Frame.create(
            FrameType.GLOBAL, Direction.SERVER_TO_CLIENT, true, undefined,
            frame.header.transactionSequenceNumber, "readRsp", frame.cluster.ID, values, {},
        );
        const payload = {
            address: networkAddress, clusterID: frame.cluster.ID, header: answer.header, data: answer.toBuffer(),
            endpoint, linkquality: 100, groupID: 0, wasBroadcast: false, destinationEndpoint: 1,
        };
        this.emit("zclPayload", payload);
        return payload;
    }
}

Adapter.create = async (...options) => new FakeRadio(...options);
